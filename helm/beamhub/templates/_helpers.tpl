{{- define "beamhub.name" -}}
{{ default .Release.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "beamhub.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "beamhub.selector" . }}
{{- end }}

{{/* Labels that select this release's pods, sessions included. */}}
{{- define "beamhub.selector" -}}
app.kubernetes.io/name: beamhub
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "beamhub.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.runAs.uid }}
runAsGroup: {{ .Values.runAs.gid }}
fsGroup: {{ .Values.runAs.gid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "beamhub.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* An image by digest: (list repository digest). */}}
{{- define "beamhub.image" -}}
{{ .repository }}@{{ .digest }}
{{- end }}

{{- define "beamhub.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The keys of the Secret that a text names by their paths, as the items of a volume. */}}
{{- define "beamhub.secretItems" -}}
{{- range regexFindAll "/run/secrets/beamhub/[A-Za-z0-9._-]+" . -1 | uniq | sortAlpha }}
- {key: {{ base . }}, path: {{ base . }}}
{{- end }}
{{- end }}

{{/* Namespaces of the sessions, as JSON: what the Kubernetes places of `facility` name. */}}
{{- define "beamhub.sessionNamespaces" -}}
{{- $found := list }}
{{- range .Values.facility.sessions.places }}
{{- with .kubernetes }}{{ $found = append $found .namespace }}{{ end }}
{{- end }}
{{- if has .Release.Namespace $found }}
{{- fail (printf "facility.sessions.places: sessions need a namespace of their own, not the release's (%s)" .Release.Namespace) }}
{{- end }}
{{- $found | uniq | toJson }}
{{- end }}

{{/* A peer of a network policy: pods of a component of this release, from whichever namespace it is asked. */}}
{{- define "beamhub.peer" -}}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ .root.Release.Namespace }}}
  podSelector:
    matchLabels:
      {{- include "beamhub.selector" .root | nindent 6 }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: [{{ join ", " .components }}]}
{{- end }}

{{/* A peer of a network policy: every pod of the sessions' namespaces. */}}
{{- define "beamhub.sessionPeers" -}}
{{- range include "beamhub.sessionNamespaces" . | fromJsonArray }}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ . }}}
{{- end }}
{{- end }}

{{/* Where the release's own database is waited for, before what keeps its state there starts. */}}
{{- define "beamhub.waitForDatabase" -}}
{{- if .root.Values.database.enabled }}
initContainers:
  - name: wait-for-database
    image: {{ include "beamhub.image" .image }}
    command:
      - python
      - -P
      - -c
      - |
        import socket, sys, time
        for _ in range(120):
            try:
                socket.create_connection(("{{ include "beamhub.name" .root }}-database", 5432), 2).close()
                sys.exit(0)
            except OSError as error:
                reason = error
                time.sleep(1)
        sys.exit(f"the database does not answer: {reason}")
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 64Mi}}
    securityContext:
      {{- include "beamhub.containerSecurity" .root | nindent 6 }}
{{- end }}
{{- end }}

{{/* The storage class of a claim: the cluster's default when null, none at all when empty. */}}
{{- define "beamhub.storageClass" -}}
{{- if kindIs "string" . }}
storageClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Configuration and a writable /tmp, as hub and web mount them. */}}
{{- define "beamhub.commonMounts" -}}
- {name: config, mountPath: /etc/beamhub, readOnly: true}
- {name: secrets, mountPath: /run/secrets/beamhub, readOnly: true}
- {name: user-office, mountPath: /etc/beamhub-office, readOnly: true}
- {name: state, mountPath: /var/lib/beamhub}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "beamhub.commonVolumes" -}}
- name: config
  configMap: {name: {{ include "beamhub.name" . }}-config}
- name: user-office
{{- if .Values.userOffice.existingSecret }}
  secret: {secretName: {{ .Values.userOffice.existingSecret }}, defaultMode: 0440}
{{- else }}
  configMap: {name: {{ required "userOffice: name an existingSecret or an existingConfigMap" .Values.userOffice.existingConfigMap }}}
{{- end }}
- name: tmp
  emptyDir: {}
{{- end }}

{{/* Restarts a pod when the configuration changes. */}}
{{- define "beamhub.checksum" -}}
checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
{{- end }}

{{/* Everywhere, but not the address where clouds hand out credentials. */}}
{{- define "beamhub.outside" -}}
- ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}
- ipBlock: {cidr: "::/0", except: ["fe80::/10", "fd00:ec2::/32"]}
{{- end }}

{{/* The cluster's own name server, as a rule of egress. */}}
{{- define "beamhub.dnsRule" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
  to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .Values.networkPolicy.dns.namespace }}}
      podSelector:
        matchLabels:
          {{- toYaml .Values.networkPolicy.dns.podLabels | nindent 10 }}
{{- end }}

{{/* The Kubernetes API server, as a rule of egress. */}}
{{- define "beamhub.apiServerRule" -}}
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - {port: {{ int . }}}
    {{- end }}
  to:
    {{- range .Values.networkPolicy.apiServerCidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- else }}
    {{- include "beamhub.outside" $ | nindent 4 }}
    {{- end }}
{{- end }}
