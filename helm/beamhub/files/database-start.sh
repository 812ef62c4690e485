# Starts PostgreSQL with a database for each name given, owned by a user of that name, whose password is the file
# /run/secrets/beamhub/NAME-database-password. Any image with PostgreSQL 15 or newer will do. `--is-ready` asks.
set -eu
for folder in /usr/lib/postgresql/*/bin /usr/local/pgsql/bin; do
  if [ -x "$folder/postgres" ]; then PATH=$folder:$PATH; fi
done
if [ "${1:-}" = --is-ready ]; then exec pg_isready --quiet --host=/tmp; fi

data=/var/lib/beamhub/postgresql
if [ ! -s "$data/PG_VERSION" ]; then
  rm -rf "$data.part" # of a start that was cut short
  initdb --pgdata="$data.part" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --data-checksums >/dev/null
  mv "$data.part" "$data"
fi
rm -f "$data/postmaster.pid" # one pod at a time has this volume
options="-c unix_socket_directories=/tmp -c hba_file=/etc/beamhub/pg_hba.conf -c password_encryption=scram-sha-256"

# Users, passwords and databases, before anybody else can connect; again at each start, so that passwords can change.
pg_ctl --pgdata="$data" --wait --silent --options="$options -c listen_addresses=''" start
for name in "$@"; do
  export PASSWORD_FILE="/run/secrets/beamhub/$name-database-password" # its name only: a password on no command line
  psql --host=/tmp --username=postgres --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --set=name="$name" postgres <<'SQL'
\set password `cat "$PASSWORD_FILE"`
SELECT format('CREATE ROLE %I LOGIN', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', :'name', :'password') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
SELECT format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', :'name') \gexec
SQL
done
pg_ctl --pgdata="$data" --wait --silent --mode=fast stop
exec postgres -D "$data" $options -c listen_addresses='*'
