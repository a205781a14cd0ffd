"""Store Alpaca's keys and the addresses of messages."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.secrets:main",
    description=(
        "Asks for the key id and the secret key of each strategy, and for addresses of messages (Enter for none), or "
        "takes them from the environment variables ALPACAUSER, ALPACAPW and MESSAGE_URL (none deletes the addresses)."
    ),
    options=(
        Option(name="STRATEGY", meaning="only this strategy (default: all that Terraform knows)", metavar="NAME"),
        Option(
            name="CHECK",
            meaning="0: store the keys without asking Alpaca whether they work",
            metavar="1|0",
            words=("1", "0"),
        ),
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
