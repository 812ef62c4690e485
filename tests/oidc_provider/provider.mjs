// A strict OpenID provider (npm `oidc-provider`) for the tests: two or more accounts in memory, a form to choose one.
//
//   node provider.mjs SETTINGS.json
//
// SETTINGS.json: port, client (metadata as in Dynamic Client Registration 1.0), access_token_s, and accounts by
// subject, each with the claims of its userinfo and the authentication contexts (acr) that it can reach.
// GET /control gives what happened, POST /control replaces the accounts.
import { createRequire } from 'node:module';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

// Modules are looked up beside the working directory: this file is never copied to where they are installed.
const require = createRequire(`${process.cwd()}/`);
const { Provider, errors } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const issuer = `http://127.0.0.1:${settings.port}`;
const happened = { refreshed: 0, refused: [], told: 0, not_told: [], spent_refresh_tokens: [] };
let { accounts } = settings;

function signingKey(kind, options, alg) {
  const jwk = generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' });
  return { ...jwk, kid: randomUUID(), use: 'sig', alg };
}

const provider = new Provider(issuer, {
  clients: [settings.client],
  jwks: { keys: [signingKey('rsa', { modulusLength: 2048 }, 'RS256'), signingKey('ec', { namedCurve: 'P-256' }, 'ES256')] },
  claims: {
    openid: ['sub'],
    profile: ['name', 'given_name', 'family_name'],
    email: ['email', 'email_verified'],
    aarc: ['voperson_id', 'entitlements', 'eduperson_assurance', 'schac_home_organization'],
    acr: null,
    auth_time: null,
    sid: null,
  },
  scopes: ['openid', 'offline_access', 'profile', 'email', 'aarc'],
  acrValues: ['https://refeds.org/profile/sfa', 'https://refeds.org/profile/mfa'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  clockTolerance: 0,
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: settings.access_token_s, IdToken: 300, RefreshToken: 3600, Grant: 3600, Session: 3600, Interaction: 600 },
  cookies: { keys: [randomUUID()] },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    claimsParameter: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: async (ctx, subject) => accounts[subject] && {
    accountId: subject,
    claims: async () => ({ sub: subject, ...accounts[subject].claims }),
  },
  // The library's own dispatcher refuses loopback, where the hub of a test listens.
  fetch: (url, { dispatcher, ...options }) => fetch(url, { ...options, signal: AbortSignal.timeout(5000) }),
});

provider.on('grant.success', (ctx) => { if (ctx.oidc.params.grant_type === 'refresh_token') happened.refreshed += 1; });
provider.on('grant.error', (ctx, error) => happened.refused.push(error.error_detail ?? error.message));
provider.on('refresh_token.consumed', (token) => happened.spent_refresh_tokens.push(token.jti));
provider.on('backchannel.success', () => { happened.told += 1; });
provider.on('backchannel.error', (ctx, error) => happened.not_told.push(error.message));
provider.on('server_error', (ctx, error) => console.error(error));

async function bodyOf(request) {
  let body = '';
  for await (const part of request) body += part;
  return body;
}

async function control(request, response) {
  if (request.method === 'POST') accounts = JSON.parse(await bodyOf(request));
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(happened));
}

function loginForm(response, uid) {
  response.setHeader('content-type', 'text/html; charset=utf-8');
  const options = Object.keys(accounts).map((subject) => `<option>${subject}</option>`).join('');
  response.end(`<!doctype html><title>Log in</title><form method="post" action="/interaction/${uid}">
    <select name="subject">${options}</select><button>Log in</button></form>`);
}

// The account reaches the first of its contexts that was asked for as essential, else its first one.
function reached(subject, params) {
  const own = accounts[subject]?.acr ?? [];
  const asked = JSON.parse(params.claims ?? '{}').id_token?.acr;
  const wanted = asked?.essential ? asked.values ?? [asked.value] : undefined;
  return wanted ? own.find((acr) => wanted.includes(acr)) : own[0];
}

async function logIn(request, response, { params }) {
  const subject = new URLSearchParams(await bodyOf(request)).get('subject');
  const acr = reached(subject, params);
  if (acr === undefined) {
    const error = new errors.UnmetAuthenticationRequirements('no such authentication');
    return provider.interactionFinished(request, response, { error: error.error, error_description: error.error_description });
  }
  return provider.interactionFinished(request, response, { login: { accountId: subject, acr } });
}

async function consent(request, response, { grantId, session, params, prompt }) {
  const grant = (grantId && (await provider.Grant.find(grantId)))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  if (prompt.details.missingOIDCClaims) grant.addOIDCClaims(prompt.details.missingOIDCClaims);
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

const handle = provider.callback();
const { createServer } = await import('node:http');
createServer(async (request, response) => {
  try {
    if (request.url === '/control') return await control(request, response);
    if (!request.url.startsWith('/interaction/')) return await handle(request, response);
    const details = await provider.interactionDetails(request, response);
    if (details.prompt.name === 'consent') return await consent(request, response, details);
    if (request.method === 'POST') return await logIn(request, response, details);
    return loginForm(response, details.uid);
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
    return response.end();
  }
}).listen(settings.port, '127.0.0.1', () => console.log(`listening on ${issuer}`));
