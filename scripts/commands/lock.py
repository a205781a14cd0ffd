"""Lock the requirements."""

from scripts.command import Command, Option

COMMAND = Command(
    main="scripts.checks.development:lock",
    description="Writes requirements/ and layer/requirements.txt anew.",
    options=(Option(name="KEEP", meaning="keep the locked versions that pyproject.toml still allows", is_flag=True),),
    combines=True,
    needs_clone=True,
)
