{{- define "gvList" -}}
# API fields

<!-- Generated from api/v1alpha1 by `make docs`. -->

All kinds are namespaced, of category `growbin`, with the short names `scan` and `scans`, `tb`, and `wp`. ScanRequests can be selected by
the fields `.status.phase`, `.status.assignment.worker` and `.spec.userID`. `kubectl explain` has the same texts. The reasons of conditions are on [a page of their own](conditions.md).
{{ range . }}{{ template "gvDetails" . }}{{ end }}
{{- end -}}

{{- define "gvDetails" }}
Group and version: `{{ .GroupVersionString }}`. Kinds:
{{- $gv := . }}
{{- range $i, $kind := .SortedKinds }}{{ if $i }},{{ end }} {{ $gv.TypeForKind $kind | markdownRenderTypeLink }}{{ end }}.
{{ range .SortedKinds }}{{ template "type" ($gv.TypeForKind .) }}{{ end }}
{{- range .SortedTypes }}{{ if not .GVK }}{{ template "type" . }}{{ end }}{{ end }}
{{- end -}}

{{- define "type" }}
{{- if markdownShouldRenderType . }}
{{ if .GVK }}##{{ else }}###{{ end }} {{ .Name }}

{{ template "text" .Doc }}
{{- if .References }}

Used by
{{- range $i, $user := .SortedReferences }}{{ if $i }},{{ end }} {{ markdownRenderTypeLink $user }}{{ end }}.
{{- end }}
{{- if .EnumValues }}

| value | meaning |
|---|---|
{{- range .EnumValues }}
| `{{ .Name }}` | {{ template "text" .Doc }} |
{{- end }}
{{- else if .Members }}

| field | type | default | validation | meaning |
|---|---|---|---|---|
{{- range .Members }}
| `{{ .Name }}` | {{ markdownRenderType .Type }} | {{ with .Default }}`{{ . }}`{{ end }} | {{ template "rules" .Validation }} | {{ if eq .Name "metadata" }}The standard metadata of objects.{{ else }}{{ template "text" .Doc }}{{ end }} |
{{- end }}
{{- end }}
{{ end }}
{{- end -}}

{{- define "text" }}{{ regexReplaceAll "(?s)\n?---\n.*" . "" | replace "\n" " " | replace "|" "\\|" | trim }}{{ end -}}

{{- define "rules" }}
{{- $rules := list }}
{{- range . }}
{{- if hasPrefix "Required" . }}{{ $rules = append $rules "required" }}
{{- else if not (regexMatch "^(Optional|Min[A-Za-z]*: 0|items:MinLength: 0|Schemaless|Type)" .) }}{{ $rules = append $rules (replace "|" "\\|" . | replace "\n" " ") }}
{{- end }}
{{- end }}
{{- join "; " $rules }}
{{- end -}}
