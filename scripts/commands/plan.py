"""Plan a deployment."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.plan:main",
    description="Shows what would change, and refuses a plan that would fail or cost money by mistake.",
    options=(
        Option(name="OUT", meaning="save the plan in this file, for make deploy PLAN=", metavar="FILE"),
        Option(name="LOCK", meaning="0: do not lock the state", metavar="1|0", words=("1", "0")),
        Option(
            name="UNDO_ROLLBACK", meaning="let a deployment replace the version that a rollback chose", is_flag=True
        ),
        Option(name="CHECK_RULES", meaning="check own rules first that were not checked as they are", is_flag=True),
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
