#!/usr/bin/env bash
# Fails if a text uses a word that the project's style avoids (CONTRIBUTING.md). Budgets, watches and headers do not
# "tell", an unschedulable scan is not "hopeless". docs/glossary.md has the terms to use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

words='tells?|told|pokes?|poked|hopeless|dearer|dearest|and its kin|of its kin'
if git grep -nIiwE "$words" -- '*.go' '*.md' '*.yaml' '*.sh' 'Makefile' ':!*testdata*' ':!internal/pipeline/knowledge/default' ':!hack/words.sh'; then
	echo "words: use plain words and the terms of docs/glossary.md instead" >&2
	exit 1
fi
echo "words: the texts avoid what the style avoids"
