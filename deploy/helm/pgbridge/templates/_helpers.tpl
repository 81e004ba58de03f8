{{- define "pgbridge.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pgbridge.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pgbridge.labels" -}}
{{ include "pgbridge.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "pgbridge.image" -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end -}}

{{- define "pgbridge.ownImage" -}}
{{- $i := .Values.image -}}
{{- include "pgbridge.image" (dict "repository" $i.repository "tag" (default .Chart.AppVersion $i.tag) "digest" $i.digest) -}}
{{- end -}}

{{- define "pgbridge.serviceAccount" -}}
{{- $a := .Values.serviceAccount -}}
{{- default (ternary (include "pgbridge.fullname" .) "default" $a.create) $a.name -}}
{{- end -}}

{{- define "pgbridge.secret" -}}
{{- default (include "pgbridge.fullname" .) .Values.secret.name -}}
{{- end -}}

{{- /* Where the scripts are mounted: config.scripts is a folder of the container. */ -}}
{{- define "pgbridge.scriptsFolder" -}}
{{- default "/scripts" .Values.config.scripts -}}
{{- end -}}

{{- /* What pgbridge.yaml holds: config, and what follows from other values. */ -}}
{{- define "pgbridge.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- if .Values.scripts -}}{{- $_ := set $c "scripts" (include "pgbridge.scriptsFolder" .) -}}{{- end -}}
{{- if .Values.natsServer.enabled -}}
{{- $_ := set $c "nats" (merge (dict "url" (printf "nats://%s-nats:4222" (include "pgbridge.fullname" .))) $c.nats) -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}

{{- /* All of config whose change wants other pods. Channels are taken over live. */ -}}
{{- define "pgbridge.restartsOn" -}}
{{- omit (include "pgbridge.config" . | fromYaml) "channels" | toYaml | sha256sum -}}
{{- end -}}

{{- define "pgbridge.port" -}}
{{- regexFind "[0-9]+$" .Values.config.http -}}
{{- end -}}

{{- /* A size, as docs/configuration.md writes it, in bytes. */ -}}
{{- define "pgbridge.bytes" -}}
{{- if kindIs "string" . -}}
{{- $n := regexFind "^[0-9]+" . | int64 -}}
{{- if hasSuffix "GiB" . -}}{{- mul $n 1073741824 -}}
{{- else if hasSuffix "MiB" . -}}{{- mul $n 1048576 -}}
{{- else if hasSuffix "KiB" . -}}{{- mul $n 1024 -}}
{{- else -}}{{- $n -}}{{- end -}}
{{- else -}}{{- int64 . -}}{{- end -}}
{{- end -}}

{{- /* What the program keeps to, an eighth more, and 96 MiB for what a standby keeps while the
publishing replica is frozen, in steps of 32 MiB. */ -}}
{{- define "pgbridge.memory" -}}
{{- $queue := include "pgbridge.bytes" .Values.config.queue.bytes | int64 -}}
{{- $requests := include "pgbridge.bytes" .Values.config.requests.bytes | int64 -}}
{{- $kept := add 50331648 (mul 2 $queue) (div (mul 3 $requests) 2) -}}
{{- $limit := add 100663296 (div (mul 9 $kept) 8) -}}
{{- printf "%dMi" (mul 32 (div (add $limit 33554431) 33554432)) -}}
{{- end -}}

{{- define "pgbridge.resources" -}}
{{- $r := deepCopy .Values.resources -}}
{{- if not (dig "limits" "memory" "" $r) -}}
{{- $_ := set $r "limits" (merge (dict "memory" (include "pgbridge.memory" .)) (default dict $r.limits)) -}}
{{- end -}}
{{- toYaml $r -}}
{{- end -}}

{{- /* stop.grace in seconds, and 15 more. */ -}}
{{- define "pgbridge.grace" -}}
{{- $start := toDate "2006-01-02" "2000-01-01" -}}
{{- $end := mustDateModify (printf "+%s" .Values.config.stop.grace) $start -}}
{{- add (sub (unixEpoch $end) (unixEpoch $start)) 15 -}}
{{- end -}}

{{- define "pgbridge.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532 # may read the Secret
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "pgbridge.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Folders, not subPath: only those follow a changed ConfigMap or Secret. */ -}}
{{- define "pgbridge.mounts" -}}
- {name: config, mountPath: /etc/pgbridge, readOnly: true}
- {name: secret, mountPath: /run/secrets/pgbridge, readOnly: true}
{{- if .Values.scripts }}
- {name: scripts, mountPath: {{ include "pgbridge.scriptsFolder" . }}, readOnly: true}
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* A ConfigMap's key has no slash and a script's name no dot. Scripts without
folders are mounted as they are, so that another one needs no other pod. */ -}}
{{- define "pgbridge.scriptKey" -}}
{{- . | replace "/" "." -}}
{{- end -}}

{{- define "pgbridge.scriptsVolume" -}}
- name: scripts
  configMap:
    name: {{ include "pgbridge.fullname" . }}-scripts
    {{- if contains "/" (keys .Values.scripts | sortAlpha | join " ") }}
    items:
      {{- range $path, $_ := .Values.scripts }}
      - {key: {{ include "pgbridge.scriptKey" $path }}, path: {{ $path }}}
      {{- end }}
    {{- end }}
{{- end -}}
