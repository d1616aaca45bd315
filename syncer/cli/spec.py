"""``syncer spec``: checking a spec without touching a registry."""

import os
from pathlib import Path
from typing import Annotated

import typer

from syncer.cli.exits import ExitCode
from syncer.cli.options import Output, spread
from syncer.cli.rendering import print_json, print_line
from syncer.spec.loader import load_spec
from syncer.spec.schema import json_schema
from syncer.telemetry.quantities import format_count

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.", show_default=False)]


@spread
def validate(spec: SpecFile, voice: Output) -> int:
    """Check a spec; nothing is requested.

    Every problem is told at once, with file, line and column. ${VARIABLES} are taken from the environment.
    """
    loaded = load_spec(spec, os.environ)
    if voice.as_json:
        entries = [
            {
                "name": entry.name,
                "from": f"{entry.source_registry}/{entry.source}",
                "to": f"{entry.target_registry}/{entry.target}",
            }
            for entry in loaded.entries
        ]
        print_json({"valid": True, "spec": str(spec), "state": str(loaded.state), "entries": entries})
    else:
        counted = format_count(len(loaded.entries), "entry")
        print_line(f"{spec} is valid: {counted}, {format_count(len(loaded.registries), 'registry')}.")
    return ExitCode.DONE


@spread
def schema(voice: Output) -> int:
    """Print the JSON schema of the spec, for editors.

    It is JSON whatever --output says.
    """
    del voice
    print_json(json_schema())
    return ExitCode.DONE
