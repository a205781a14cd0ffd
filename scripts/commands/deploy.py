"""Deploy to AWS."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.deploy:main",
    description="Builds the layer and the function where they are missing, plans, checks the plan and applies it.",
    options=(
        Option(name="PLAN", meaning="apply this plan, which make plan OUT= saved", metavar="FILE"),
        Option(
            name="UNDO_ROLLBACK", meaning="let the deployment replace the version that a rollback chose", is_flag=True
        ),
        Option(name="CHECK_RULES", meaning="check own rules first that were not checked as they are", is_flag=True),
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
