"""Check the infrastructure."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:lint_infra",
    description="Runs terraform fmt and validate, checkov, zizmor, yamllint and shellcheck.",
    combines=True,
    needs_clone=True,
)
