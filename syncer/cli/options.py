"""The options that several commands share.

A command takes a :class:`Voice` or a :class:`ReachOptions` as one parameter, and :func:`spread`
unfolds it into the single options that typer sees.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from syncer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncer.app.places import Reach


class OutputFormat(StrEnum):
    """For whom results are printed."""

    HUMAN = "human"
    JSON = "json"


class LogFormat(StrEnum):
    """For whom log lines are written."""

    CONSOLE = "console"
    JSON = "json"


class Level(StrEnum):
    """From which level on log lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Voice:
    """How a command speaks."""

    output: OutputFormat = OutputFormat.HUMAN
    log_format: LogFormat = LogFormat.CONSOLE
    log_level: Level = Level.WARNING
    quiet: bool = False
    no_progress: bool = False

    @property
    def as_json(self) -> bool:
        """True when the result is to be JSON."""
        return self.output is OutputFormat.JSON


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReachOptions:
    """How a registry is reached, as the command line says it; None leaves HTTP or TLS to the address."""

    plain_http: bool | None = None
    ca: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False
    trusted_hosts: str = ""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, as a spec that says so is refused.

        Raises:
            UsageError: when certificates are spoken of where there are none, or where any will do.
        """
        if self.plain_http and (self.ca or self.cert or self.key or self.insecure):
            raise UsageError(
                "without TLS there is no certificate to check or to show",
                hint="Leave out --plain-http, or --ca, --cert, --key and --insecure (--src-…, --dest-… in a copy).",
            )
        if self.insecure and self.ca:
            raise UsageError(
                "--insecure takes any certificate, whatever --ca says", hint="Keep --ca (--src-…, --dest-… in a copy)."
            )

    def reach(self) -> Reach:
        """Return the same for :mod:`syncer.app`.

        Raises:
            InvalidReference: when what is to be trusted is no host.
        """
        from syncer.app.places import Reach  # noqa: PLC0415 - the client is not needed for --help

        return Reach(
            plain_http=self.plain_http,
            ca=self.ca,
            cert=self.cert,
            key=self.key,
            insecure=self.insecure,
            trusted_hosts=_trusted(self.trusted_hosts),
        )


def _trusted(hosts: str) -> tuple[str, ...]:
    if not hosts:
        return ()
    from syncer.spec.hosts import parse_trusted  # noqa: PLC0415 - few commands name any

    return tuple(parse_trusted(host) for host in hosts.split(",") if host)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Choice:
    """One option: the field it fills, its type, its flags and its help."""

    field: str
    kind: Any
    flags: tuple[str, ...]
    help: str
    default: Any
    metavar: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spread:
    """A parameter that stands for several options; ``prefix`` keeps those of two sides apart."""

    make: Callable[..., Any]
    choices: tuple[Choice, ...]
    prefix: str = ""

    def parameters(self) -> list[inspect.Parameter]:
        """Return the options as parameters that typer understands."""
        return [
            inspect.Parameter(
                self.prefix + choice.field,
                inspect.Parameter.KEYWORD_ONLY,
                default=choice.default,
                annotation=Annotated[
                    choice.kind,
                    typer.Option(*choice.flags, help=choice.help, metavar=choice.metavar, show_default=False),
                ],
            )
            for choice in self.choices
        ]

    def collect(self, values: dict[str, Any]) -> Any:
        """Take the options out of ``values`` and return what they make."""
        return self.make(**{choice.field: values.pop(self.prefix + choice.field) for choice in self.choices})


_OUTPUT = Choice(
    field="output",
    kind=OutputFormat,
    flags=("--output",),
    help="Print the result for people or as JSON. [default: human]",
    default=OutputFormat.HUMAN,
)
_LOGS = (
    Choice(
        field="log_format",
        kind=LogFormat,
        flags=("--log-format",),
        help="Write log lines for people or as JSON. [default: console]",
        default=LogFormat.CONSOLE,
    ),
    Choice(
        field="log_level",
        kind=Level,
        flags=("--log-level",),
        help="Write log lines from this level on. [default: warning]",
        default=Level.WARNING,
    ),
    Choice(
        field="quiet",
        kind=bool,
        flags=("--quiet", "-q"),
        help="No progress and no log lines below error; results and errors only.",
        default=False,
    ),
)
_NO_PROGRESS = Choice(
    field="no_progress",
    kind=bool,
    flags=("--no-progress",),
    help="Neither progress bars nor the heartbeat line every 10 seconds.",
    default=False,
)


def _reach(side: str) -> Spread:
    dash = f"{side}-" if side else ""
    of = {"": "the registry", "src": "the source", "dest": "the target"}[side]
    return Spread(
        make=ReachOptions,
        prefix=f"{side}_" if side else "",
        choices=(
            Choice(
                field="plain_http",
                kind=bool | None,
                flags=(f"--{dash}plain-http/--no-{dash}plain-http",),
                help=f"Talk to {of} without TLS, or with it. [default: without for loopback addresses only]",
                default=None,
            ),
            Choice(
                field="ca",
                kind=str,
                flags=(f"--{dash}ca",),
                help=f"Authorities to trust for {of}, besides the system's (PEM).",
                default="",
                metavar="FILE",
            ),
            Choice(
                field="cert",
                kind=str,
                flags=(f"--{dash}cert",),
                help=f"A certificate to show to {of} (PEM).",
                default="",
                metavar="FILE",
            ),
            Choice(
                field="key",
                kind=str,
                flags=(f"--{dash}key",),
                help="The key of that certificate (PEM).",
                default="",
                metavar="FILE",
            ),
            Choice(
                field="insecure",
                kind=bool,
                flags=(f"--{dash}insecure",),
                help=f"Take any certificate of {of}: no protection against who sits in between.",
                default=False,
            ),
            Choice(
                field="trusted_hosts",
                kind=str,
                flags=(f"--{dash}trusted-hosts",),
                help=f"Hosts, and *.domains, that {of} may lead to although they are internal; with commas between.",
                default="",
                metavar="HOSTS",
            ),
        ),
    )


#: A command without network: only how its result is printed.
Output = Annotated[Voice, Spread(make=Voice, choices=(_OUTPUT,))]
#: A command with network.
Spoken = Annotated[Voice, Spread(make=Voice, choices=(_OUTPUT, *_LOGS))]
#: A command that moves content.
Progressing = Annotated[Voice, Spread(make=Voice, choices=(_OUTPUT, *_LOGS, _NO_PROGRESS))]
RegistryReach = Annotated[ReachOptions, _reach("")]
SourceReach = Annotated[ReachOptions, _reach("src")]
TargetReach = Annotated[ReachOptions, _reach("dest")]
AuthFile = Annotated[
    str, typer.Option("--authfile", metavar="FILE", help="Credentials, instead of the usual files.", show_default=False)
]
DrainSeconds = Annotated[
    float,
    typer.Option(
        "--drain",
        metavar="SECONDS",
        min=0.0,
        max=86400.0,
        help="For how long SIGTERM lets images under way go on; 0 stops them as Ctrl-C does. [default: 7]",
        show_default=False,
    ),
]
RegistriesConf = Annotated[
    str,
    typer.Option(
        "--registries-conf",
        metavar="off|FILE",
        help="Read images without mirrors, or as this registries.conf says. [default: the machine's]",
        show_default=False,
    ),
]


def spread(command: Callable[..., int]) -> Callable[..., int]:
    """Return ``command`` with its compound parameters unfolded into single options."""
    own: list[inspect.Parameter] = []
    shared: list[inspect.Parameter] = []
    compounds: dict[str, Spread] = {}
    for parameter in inspect.signature(command).parameters.values():
        compound = _compound(parameter.annotation)
        if compound is None:
            own.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            compounds[parameter.name] = compound
            shared += compound.parameters()
    # What is special about a command comes first in its help.
    parameters = own + shared

    @functools.wraps(command)
    def unfolded(**values: Any) -> int:
        collected = {name: compound.collect(values) for name, compound in compounds.items()}
        return command(**values, **collected)

    unfolded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect looks for
    unfolded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del unfolded.__wrapped__
    return unfolded


def _compound(annotation: Any) -> Spread | None:
    if get_origin(annotation) is not Annotated:
        return None
    return next((part for part in get_args(annotation) if isinstance(part, Spread)), None)
