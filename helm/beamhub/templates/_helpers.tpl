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

{{/* Configuration, secrets and a writable /tmp, as hub and web mount them. */}}
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
- name: secrets
  secret: {secretName: {{ .Values.existingSecret }}, defaultMode: 0440}
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
