"""Remove what runs left in out/."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.run.clean:main",
    description=(
        "Keeps the cache of Yahoo's prices and the results of sweeps, and asks before it deletes the records of"
        " a real Alpaca account."
    ),
    options=(
        Option(name="ALL", meaning="delete the cache and the sweeps too", is_flag=True),
        Option(name="CONFIRM", meaning="answer the question beforehand: yes", metavar="yes", words=("yes",)),
        JSON,
    ),
    combines=True,
)
