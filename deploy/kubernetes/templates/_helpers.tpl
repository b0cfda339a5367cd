{{- define "receiver.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "receiver.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "receiver.labels" -}}
{{ include "receiver.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* What all pods have in common; used with (dict "root" . "component" NAME). */ -}}
{{- define "receiver.pod" -}}
{{- $root := .root -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "receiver.container" -}}
{{- $root := .root -}}
image: {{ printf "%s:%s" $root.Values.image.repository ($root.Values.image.tag | default $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
envFrom:
  - secretRef:
      name: {{ required "secretName is needed" $root.Values.secretName }}
env:
  - name: PUBLIC_URL
    value: https://{{ required "host is needed" $root.Values.host }}
  - name: PORT
    value: "8000"
  - name: FILES_URL
    value: {{ $root.Values.files.url | default "/var/lib/receiver/files" | quote }}
  {{- range $name, $value := $root.Values.settings }}
  - name: {{ $name }}
    value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}

{{- define "receiver.mounts" -}}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if not .Values.files.url }}
  - name: files
    mountPath: /var/lib/receiver/files
  {{- end }}
{{- end }}

{{- define "receiver.volumes" -}}
volumes:
  - name: tmp
    emptyDir: {}
  {{- if not .Values.files.url }}
  - name: files
    persistentVolumeClaim:
      claimName: {{ .Values.files.existingClaim | default (printf "%s-files" (include "receiver.name" .)) }}
  {{- end }}
{{- end }}

{{- define "receiver.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "receiver.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
{{- end }}
