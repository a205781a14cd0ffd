"""Store Alpaca's keys."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.secrets:main",
    description=(
        "Asks for the key id and the secret key of each strategy, or takes them from the environment variables "
        "ALPACAUSER and ALPACAPW."
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
