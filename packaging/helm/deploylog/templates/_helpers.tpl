{{- define "deploylog.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "deploylog.selector" -}}
app.kubernetes.io/name: deploylog
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "deploylog.labels" -}}
{{ include "deploylog.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "deploylog.environment" -}}
- name: DEPLOYLOG_HOST
  value: 0.0.0.0
- name: DEPLOYLOG_STORE
  value: {{ .Values.store | default "sqlite:////var/lib/deploylog/deploylog.db" | quote }}
{{- if .Values.encryptionKeySecret }}
- name: DEPLOYLOG_SECRET_KEY_FILE
  value: /etc/deploylog/encryption.key
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: DEPLOYLOG_{{ upper $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{- define "deploylog.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "deploylog.environment" . | nindent 2 }}
{{- with .Values.environmentSecret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: data
    mountPath: /var/lib/deploylog
  - name: tmp
    mountPath: /tmp
  {{- if .Values.encryptionKeySecret }}
  - name: encryption-key
    mountPath: /etc/deploylog
    readOnly: true
  {{- end }}
{{- end }}
