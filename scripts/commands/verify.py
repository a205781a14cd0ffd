"""Verify a journal."""

from scripts.command import JSON, RECORDED_RULE, Command, Option

COMMAND = Command(
    main="scripts.run.verify:main",
    description=(
        "Checks that no record was removed, added or changed, recomputes every decision, and checks every cap with a "
        "second program. It changes nothing. Exits with 1 if something is wrong."
    ),
    options=(
        Option(
            name="SINCE",
            meaning="from: an age such as 30m, 6h, 1d or 2w, or a time (default: the first record)",
            metavar="TIME",
        ),
        Option(
            name="JOURNAL",
            meaning="where the records are: folder:PATH or s3://bucket/prefix (default: folder:out/journal)",
            metavar="PLACE",
        ),
        Option(name="STRATEGY", meaning="the strategy whose journal it is (default: trend)", metavar="NAME"),
        Option(
            name="HEAD",
            meaning="the SHA-256 of a record that an earlier make verify printed; it must still be there",
            metavar="HASH",
        ),
        RECORDED_RULE,
        JSON,
    ),
)
