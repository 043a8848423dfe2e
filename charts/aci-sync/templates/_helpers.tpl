{{- define "aci-sync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "aci-sync.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "aci-sync.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "aci-sync.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "aci-sync.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aci-sync.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aci-sync.labels" -}}
{{ include "aci-sync.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "aci-sync.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "aci-sync.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "aci-sync.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* One flag of aci-sync, from a value of flags. */}}
{{- define "aci-sync.flag" -}}
{{- $value := .value }}
{{- if kindIs "slice" $value }}{{ $value = join "," $value }}{{ end }}
{{- if kindIs "float64" $value }}{{ if eq $value (floor $value) }}{{ $value = int64 $value }}{{ end }}{{ end }}
{{- printf "--%s=%v" .name $value }}
{{- end }}

{{/* The ports of the APIC's members, sorted, each once. */}}
{{- define "aci-sync.apicPorts" -}}
{{- $ports := dict }}
{{- range .Values.apic.hosts }}
{{- $port := regexFind ":[0-9]+$" (. | trimSuffix "/") | trimPrefix ":" }}
{{- if regexMatch "^[0-9a-fA-F:]*:[0-9a-fA-F:]*:" (trimPrefix "https://" .) }}{{ $port = "" }}{{ end }}
{{- $_ := set $ports ($port | default "443") true }}
{{- end }}
{{- keys $ports | sortAlpha | join "," }}
{{- end }}

{{/* What is wrong with values in a way that the schema cannot say. */}}
{{- define "aci-sync.check" -}}
{{- if not .Values.apic.hosts }}
{{- fail "name the members of the APIC cluster as apic.hosts, such as {apic1.example.com,apic2.example.com}" }}
{{- end }}
{{- if not .Values.apic.username }}
{{- fail "name the APIC user as apic.username" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.metrics.port) }}
{{- fail "serviceMonitor.enabled needs metrics.port, which is 0" }}
{{- end }}
{{- $signs := or .Values.apic.certificate.name .Values.apic.certificate.secret }}
{{- if and $signs .Values.apic.password.secret }}
{{- fail "apic.password and apic.certificate are both set: give a password or a user certificate" }}
{{- else if and $signs (not (and .Values.apic.certificate.name .Values.apic.certificate.secret)) }}
{{- fail "apic.certificate needs both name, that of the certificate at the APIC, and secret, with its private key" }}
{{- else if not (or $signs .Values.apic.password.secret) }}
{{- fail "give the Secret with the password of the APIC user as apic.password.secret, or its certificate as apic.certificate" }}
{{- end }}
{{- if and .Values.apic.ca.configMap .Values.apic.ca.secret }}
{{- fail "apic.ca.configMap and apic.ca.secret are both set: give one" }}
{{- end }}
{{- end }}
