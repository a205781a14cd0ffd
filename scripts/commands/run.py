"""Run the bot once."""

from scripts.command import JSON, Command, Option, every_setting

COMMAND = Command(
    main="scripts.run.local:main",
    description=(
        "Decides on the prices of PRICE_SOURCES, places orders at BROKER, and shows the result as tables and as"
        " the page out/run.html. A slot is traded once: a second run for it trades nothing."
    ),
    options=(
        Option(
            name="AT", meaning="run as of a day such as 2022-11-08, or a time; not with BROKER=alpaca", metavar="TIME"
        ),
        JSON,
    ),
    settings=every_setting,
)
