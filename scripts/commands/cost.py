"""Show the use of the free tier."""

from scripts.command import CLOUD, JSON, TARGET, Command, Option

ESTIMATE = (
    Option(name="SCHEDULE", meaning="estimate for this schedule", metavar="CRON"),
    Option(
        name="DAILY_AT",
        meaning="estimate for one run a day at this time in New York, such as 15:00",
        metavar="TIME",
    ),
    *TARGET,
)
"""What a month is estimated for."""

COMMAND = Command(
    main="scripts.cloud.cost:main",
    description="Shows how much of Lambda's and CloudWatch's free tier a month takes.",
    options=(
        Option(name="ESTIMATE", meaning="estimate even if there are logs", is_flag=True),
        Option(name="MEMORY", meaning="estimate for this memory, in MB", metavar="NUMBER"),
        Option(name="ENGINE", meaning="estimate for this engine", words=("prophet", "map")),
        *ESTIMATE,
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
