"""Build the layer."""

from scripts.command import JSON, TARGET, Command

COMMAND = Command(
    main="scripts.layer.build:main",
    description=(
        "Builds layer/dist/prophet-layer-pythonPYTHON-ARCH.zip from locked wheels, without Docker, and runs the"
        " function from it before it is accepted."
    ),
    options=(
        *TARGET,
        JSON,
    ),
    combines=True,
    needs_clone=True,
)
