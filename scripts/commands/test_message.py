"""Send a test message."""

from scripts.command import CLOUD, JSON, Command, Option, every_setting

COMMAND = Command(
    main="scripts.owner.digest:send_test",
    description="Sends one message by every address that is set, and says whether it was taken.",
    options=(
        Option(name="DEPLOYED", meaning="let the function of a deployed strategy send it", is_flag=True),
        *CLOUD,
        JSON,
    ),
    settings=every_setting,
)
