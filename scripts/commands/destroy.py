"""Delete a deployment."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.destroy:main",
    description=(
        "Shows what exists, asks for its name to be typed, and deletes it: the bucket with the journal, "
        "Terraform's resources, the keys and the logs."
    ),
    options=(
        Option(name="KEEP_JOURNAL", meaning="download the journal into this folder first", metavar="FOLDER"),
        Option(name="CONFIRM", meaning="the name that would be typed", metavar="NAME"),
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
