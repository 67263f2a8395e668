{{- define "farpoint.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "farpoint.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "farpoint.labels" -}}
{{ include "farpoint.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "farpoint.image" -}}
{{- $device := ternary "gpu" "cpu" .gpu }}
{{- printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default (printf "%s-%s" .root.Chart.AppVersion $device)) }}
{{- end }}

{{- define "farpoint.sasl" -}}{{ if contains "SASL" .Values.kafka.securityProtocol }}yes{{ end }}{{- end }}

{{/* The environment of everything of ours. */}}
{{- define "farpoint.env" -}}
- {name: FARPOINT_KAFKA__BOOTSTRAP_SERVERS, value: {{ .Values.kafka.bootstrapServers | quote }}}
- {name: FARPOINT_KAFKA__GROUP_ID, value: {{ .Values.kafka.groupId | quote }}}
- {name: FARPOINT_KAFKA__SECURITY_PROTOCOL, value: {{ .Values.kafka.securityProtocol | quote }}}
{{- if include "farpoint.sasl" . }}
- {name: FARPOINT_KAFKA__SASL_MECHANISM, value: {{ .Values.kafka.saslMechanism | quote }}}
- name: FARPOINT_KAFKA__SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ required "kafka.credentialsSecret is needed with SASL" .Values.kafka.credentialsSecret | quote }}, key: username}}
- name: FARPOINT_KAFKA__SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.kafka.credentialsSecret | quote }}, key: password}}
{{- end }}
{{- if .Values.kafka.caSecret }}
- {name: FARPOINT_KAFKA__SSL_CAFILE, value: /etc/farpoint/kafka-ca/ca.crt}
{{- end }}
- {name: FARPOINT_TOPICS__DOMAIN, value: {{ .Values.topics.domain | quote }}}
- {name: FARPOINT_TOPICS__PARTITIONS, value: {{ .Values.topics.partitions | quote }}}
- {name: FARPOINT_TOPICS__REPLICATION_FACTOR, value: {{ .Values.topics.replicationFactor | quote }}}
- {name: FARPOINT_DETECTOR__SCOPE, value: {{ .Values.detector.scope | quote }}}
- {name: FARPOINT_HTTP__HOST, value: 0.0.0.0}
- {name: FARPOINT_HTTP__PORT, value: {{ .Values.http.port | quote }}}
{{- if .Values.http.tokenSecret }}
- name: FARPOINT_HTTP__TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.http.tokenSecret | quote }}, key: token}}
{{- end }}
- {name: FARPOINT_LOG__FORMAT, value: json}
{{- range $name, $value := .Values.settings }}
{{- /* To Helm every number of a file is a float, and a large one prints as 1.6777216e+07. */}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value = int64 $value }}{{ end }}
- {name: {{ printf "FARPOINT_%s" $name | quote }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- define "farpoint.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "farpoint.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "farpoint.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.kafka.caSecret }}
- {name: kafka-ca, mountPath: /etc/farpoint/kafka-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "farpoint.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- if .Values.kafka.caSecret }}
- {name: kafka-ca, secret: {secretName: {{ .Values.kafka.caSecret | quote }}}}
{{- end }}
{{- end }}

{{/* A stage's Deployment. Wants root, stage, values, gpu, strategy. */}}
{{- define "farpoint.deployment" -}}
{{- $root := .root }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "farpoint.fullname" $root }}-{{ .stage }}
  labels: {{- include "farpoint.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .stage }}
spec:
  {{- if not .values.autoscaling.enabled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  strategy: {{- .strategy | nindent 4 }}
  selector:
    matchLabels: {{- include "farpoint.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .stage }}
  template:
    metadata:
      labels: {{- include "farpoint.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .stage }}
    spec:
      automountServiceAccountToken: false
      # Kubernetes would set FARPOINT_PORT and the like for a Service of that name, which are no settings of ours.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
      securityContext: {{- include "farpoint.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .stage }}
          image: {{ include "farpoint.image" . }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [worker, --stages, {{ .stage }}]
          env: {{- include "farpoint.env" $root | nindent 12 }}
            {{- if eq .stage "embed" }}
            - {name: FARPOINT_EMBEDDER__DEVICE, value: {{ ternary "cuda" "cpu" .gpu }}}
            {{- if not (or (hasKey ($root.Values.settings | default dict) "EMBEDDER__THREADS") (dig "limits" "cpu" "" .values.resources)) }}
            # A request limits nobody, so the worker cannot see it: without a limit it would start as many threads as the
            # node has cores. Rounded up to whole cores; 0, as many as there are, where nothing is requested.
            - name: FARPOINT_EMBEDDER__THREADS
              valueFrom: {resourceFieldRef: {containerName: embed, resource: requests.cpu}}
            {{- end }}
            {{- end }}
          ports:
            - {name: http, containerPort: {{ $root.Values.http.port }}}
          # The port opens once the model is loaded and warm.
          startupProbe: {httpGet: {path: /livez, port: http}, periodSeconds: 5, failureThreshold: 36}
          livenessProbe: {httpGet: {path: /livez, port: http}, periodSeconds: 15, timeoutSeconds: 5, failureThreshold: 4}
          readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 10, timeoutSeconds: 5}
          securityContext: {{- include "farpoint.containerSecurity" $root | nindent 12 }}
          {{- $resources := deepCopy .values.resources }}
          {{- if .gpu }}
          {{- $limits := merge (dict $root.Values.embed.gpu.resource $root.Values.embed.gpu.count) ($resources.limits | default dict) }}
          {{- $_ := set $resources "limits" $limits }}
          {{- end }}
          resources: {{- toYaml $resources | nindent 12 }}
          volumeMounts: {{- include "farpoint.mounts" $root | nindent 12 }}
      volumes: {{- include "farpoint.volumes" $root | nindent 8 }}
{{- end }}

{{/* A KEDA ScaledObject on the lag of a stage. Wants root, stage, values, topics. */}}
{{- define "farpoint.scaledObject" -}}
{{- $root := .root }}
{{- $scaling := .values.autoscaling }}
{{- if gt (int $scaling.maxReplicas) (int $root.Values.topics.partitions) }}
{{- fail (printf "%s.autoscaling.maxReplicas is %d, but topics.partitions %d: a replica without a partition has nothing to do" .stage (int $scaling.maxReplicas) (int $root.Values.topics.partitions)) }}
{{- end }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "farpoint.fullname" $root }}-{{ .stage }}
  labels: {{- include "farpoint.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .stage }}
spec:
  scaleTargetRef: {name: {{ include "farpoint.fullname" $root }}-{{ .stage }}}
  pollingInterval: {{ $scaling.pollingSeconds }}
  minReplicaCount: {{ $scaling.minReplicas }}
  maxReplicaCount: {{ $scaling.maxReplicas }}
  # While the lag cannot be asked for, keep what is there.
  fallback: {failureThreshold: 4, replicas: {{ $scaling.minReplicas }}, behavior: currentReplicas}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown: {stabilizationWindowSeconds: {{ $scaling.scaleDownStabilizationSeconds }}}
        scaleUp: {stabilizationWindowSeconds: {{ $scaling.scaleUpStabilizationSeconds }}}
  triggers:
    {{- range .topics }}
    - type: kafka
      metadata:
        bootstrapServers: {{ $root.Values.kafka.bootstrapServers | quote }}
        consumerGroup: {{ $root.Values.kafka.groupId }}-{{ $.stage }}
        topic: {{ $root.Values.topics.domain }}.{{ . }}.v1
        lagThreshold: {{ int64 $scaling.lagThreshold | quote }}
        # As the workers' own: what was there before the group counts.
        offsetResetPolicy: earliest
        # A partition that stands still in spite of its consumer (a worker that stops at bad records) is no reason to scale.
        excludePersistentLag: "true"
        # Replicas beyond the partitions that have lag would idle.
        limitToPartitionsWithLag: "true"
        {{- if contains "SSL" $root.Values.kafka.securityProtocol }}
        tls: enable
        {{- end }}
        {{- if include "farpoint.sasl" $root }}
        sasl: {{ $root.Values.kafka.saslMechanism | lower | replace "scram-sha-" "scram_sha" | replace "plain" "plaintext" }}
        {{- end }}
      {{- if or (include "farpoint.sasl" $root) $root.Values.kafka.caSecret }}
      authenticationRef: {name: {{ include "farpoint.fullname" $root }}-kafka}
      {{- end }}
    {{- end }}
{{- end }}
