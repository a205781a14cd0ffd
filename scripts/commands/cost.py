"""Show the use of the free tier."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.cost:main",
    description="Shows how much of Lambda's and CloudWatch's free tier a month takes.",
    options=(
        Option(name="ESTIMATE", meaning="estimate even if there are logs", is_flag=True),
        Option(name="SCHEDULE", meaning="estimate for this schedule", metavar="CRON"),
        Option(
            name="DAILY_AT",
            meaning="estimate for one run a day at this time in New York, such as 15:00",
            metavar="TIME",
        ),
        Option(name="MEMORY", meaning="estimate for this memory, in MB", metavar="NUMBER"),
        Option(
            name="ARCH",
            meaning="the processor of the Lambda function (default: x86_64)",
            metavar="ARCH",
            words=("x86_64", "arm64"),
        ),
        Option(
            name="PYTHON",
            meaning="the Python of the Lambda function (default: 3.13)",
            metavar="VERSION",
            words=("3.13", "3.14"),
        ),
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
