"""Prepare an AWS account."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.bootstrap:main",
    description=(
        "To be run once per account. Creates the bucket for Terraform's state and, with REPOSITORY, the roles with"
        " which GitHub's workflows deploy. An option that is not given keeps its last value, except PROJECT."
    ),
    options=(
        Option(
            name="REPOSITORY", meaning="the GitHub repository, OWNER/NAME; none removes its roles", metavar="OWNER/NAME"
        ),
        Option(name="BRANCH", meaning="the branch that may deploy (default: main)", metavar="NAME"),
        Option(name="BUCKET_NAME", meaning="the root's bucket, if its bucket_name is set", metavar="NAME"),
        Option(
            name="REPOSITORY_IDS",
            meaning="the numbers of GitHub's owner and repository, if they cannot be looked up",
            metavar="IDS",
        ),
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
