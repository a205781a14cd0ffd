#!/usr/bin/env bash
# Checks everything except Python: Terraform, workflows, YAML and shell scripts. Prints one line for each check, and the
# output of failed checks. scripts/linters.sh installs the linters.
set -euo pipefail
cd "$(dirname "$0")/.."

linters=.venv/linters
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
failed=0

check() { # NAME COMMAND...: runs the command, and shows its output only if it fails
  local name=$1
  shift
  if "$@" >"$room/said" 2>&1; then
    printf 'ok      %s\n' "$name"
  else
    cat "$room/said"
    printf 'FAILED  %s\n' "$name"
    failed=1
  fi
}

# shellcheck disable=SC2329 # called by check
linter() { # NAME ARGUMENTS...: runs a program from requirements/linters.txt
  "$linters/bin/$1" "${@:2}"
}

# shellcheck disable=SC2329
validate() { # FOLDER: works on a copy, to leave nothing behind in the repository
  # The provider is 150 MB, so it is fetched once. The copy has no lock file whose hashes could break.
  export TF_PLUGIN_CACHE_DIR=${TF_PLUGIN_CACHE_DIR:-$PWD/.venv/terraform} TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE=1
  mkdir -p "$TF_PLUGIN_CACHE_DIR"
  [ -d "$room/terraform" ] || tar -c --exclude=.terraform --exclude='*.tfstate*' --exclude=backend.tf terraform | tar -x -C "$room"
  (cd "$room/$1" && terraform init -backend=false -input=false -no-color && terraform validate -no-color)
}

# shellcheck disable=SC2329
checkov() { # Its exit code ignores unreadable files, and skipped checks without a reason.
  linter checkov --config-file .checkov.yaml >"$room/checkov.json" || [ -s "$room/checkov.json" ]
  "$linters/bin/python" - "$room/checkov.json" <<'PYTHON'
import json
import os
import sys

with open(sys.argv[1]) as file:
    told = json.load(file)
wrong, checked = [], 0
for part in told if isinstance(told, list) else [told]:
    results = part.get("results", {})
    checked += len(results.get("passed_checks", []))
    for each in results.get("failed_checks", []):
        lines = "-".join(map(str, each["file_line_range"]))
        wrong.append(f"terraform{each['file_path']}:{lines}: {each['check_id']} {each['resource']}: {each['check_name']}")
    for each in results.get("skipped_checks", []):
        if each["check_result"].get("suppress_comment") in (None, "", "No comment provided"):
            wrong.append(f"terraform{each['file_path']}: {each['check_id']} is skipped without a reason: #checkov:skip=ID:reason")
    wrong += [f"{os.path.relpath(each)}: cannot be parsed, so nothing in it was checked" for each in results.get("parsing_errors", [])]
if not checked:
    wrong.append("nothing was checked")
sys.exit("\n".join(wrong) or None)
PYTHON
}

# shellcheck disable=SC2329
container() { # In a folder of its own, because checkov goes by the file's name, and would read .checkov.yaml here.
  mkdir -p "$room/container"
  cp Containerfile "$room/container/Dockerfile"
  local program=$PWD/$linters/bin/checkov
  (cd "$room/container" && "$program" --framework dockerfile --directory . --skip-download --compact) | tee "$room/container.txt" &&
    grep -q '^Passed checks: [1-9]' "$room/container.txt"
}

scripts/linters.sh
if command -v terraform >/dev/null; then
  check "terraform fmt" terraform fmt -check -recursive -diff terraform
  check "terraform validate" validate terraform
  check "terraform validate, bootstrap" validate terraform/bootstrap
elif [ "${CI:-}" = true ]; then
  echo "FAILED  terraform fmt, validate: terraform is not on the PATH, but CI must have it"
  failed=1
else
  echo "skipped terraform fmt, validate: terraform is not on the PATH (https://developer.hashicorp.com/terraform/install)"
fi
check "checkov" checkov
check "Containerfile: checkov" container
podman info >/dev/null 2>&1 || docker info >/dev/null 2>&1 ||
  echo "note    Containerfile: no container engine answers here, so it is checked only, not built (make test-slow builds it)"
check "workflows: schema" linter check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
check "dependabot: schema" linter check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
check "workflows: zizmor" linter zizmor --offline --no-progress --persona pedantic .github
check "yamllint" linter yamllint --strict -d "{extends: default, rules: {line-length: {max: 140}, document-start: disable, truthy: {check-keys: false}, comments: {min-spaces-from-content: 1}}}" \
  .checkov.yaml .pre-commit-config.yaml .github
check "shellcheck" linter shellcheck scripts/*.sh .ci/run
exit "$failed"
