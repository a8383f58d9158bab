"""The public names of the package, with their signatures and docstrings."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import observability
from observability import call, gunicorn, receiver, telemetry, testing, watched
from observability.grpc import errors
from observability.signals import redaction

# Hooks and the functions of custom labels read records; users neither make nor end them.
RECORDS = (call.Call, call.Method, call.Failure)
PUBLIC: dict[ModuleType, Iterable[Any]] = {
    observability: [
        getattr(observability, name)
        for name in sorted(observability.__all__, key=lambda name: (name != "Telemetry", name))
    ],
    call: RECORDS,
    testing: (testing.MemoryTelemetry, testing.eventually),
    receiver: (receiver.Receiver,),
    gunicorn: (gunicorn.on_starting, gunicorn.post_fork, gunicorn.child_exit),
}
FORK = {"hold", "release", "begin"}  # methods that the package itself calls around a fork
WIDTH = 100


def sections() -> Iterator[str]:
    """A section for each module."""
    for module, members in PUBLIC.items():
        yield f"## `{module.__name__}`\n\n{inspect.getdoc(module)}\n"
        for member in members:
            yield from _class(member) if inspect.isclass(member) else [_function(member)]


def _class(kind: type) -> Iterator[str]:
    """The class, and of its members the properties and, unless it is a record, the methods."""
    is_record = kind in RECORDS
    name = kind.__name__
    yield _entry("###", name if is_record else f"{name}{_arguments(_init(kind))}", kind)
    ours = [base for base in reversed(kind.__mro__) if base.__module__.startswith("observability")]
    members = {
        name: member for base in (ours if is_record else [kind]) for name, member in vars(base).items()
    }
    for member_name, member in members.items():
        if member_name.startswith("_") or member_name in FORK | _grpcs(kind):
            continue
        if inspect.isfunction(member) and not is_record:
            yield _entry("####", f"{name}.{member_name}{_arguments(_node(member))}", member)
        elif isinstance(member, property) or hasattr(member, "func"):
            yield _entry("####", f"{name}.{member_name}", member)


def _function(function: Callable[..., Any]) -> str:
    return _entry("###", f"{function.__name__}{_arguments(_node(function))}", function)


def _entry(heading: str, signature: str, member: Any) -> str:
    code = f"```text\n{signature}\n```\n\n" if "(" in signature else ""
    return f"{heading} `{signature.partition('(')[0]}`\n\n{code}{inspect.getdoc(member)}\n"


def _grpcs(kind: type) -> set[str]:
    """The methods that gRPC, or code that it has generated, declares and calls."""
    theirs = [base for base in kind.__mro__ if base.__module__.startswith(("grpc", "opentelemetry"))]
    return {name for base in theirs for name in vars(base)}


def _node(member: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(member))).body[0]


def _init(kind: type) -> Any:
    """How it is made; for a dataclass, by its fields."""
    if not hasattr(kind, "__dataclass_fields__"):
        return _node(vars(kind)["__init__"])
    fields = [ast.unparse(field) for field in _node(kind).body if isinstance(field, ast.AnnAssign)]
    return ast.parse(f"def __init__({', '.join(fields)}): ...").body[0]


def _arguments(node: ast.FunctionDef) -> str:
    """As the source has them: on one line where they fit, else on a line each."""
    returns = ast.unparse(node.returns) if node.returns else "None"
    result = "" if returns == "None" else f" -> {returns}"
    shown = [_plain(argument) for argument in _each(node.args)]
    line = f"({', '.join(shown)}){result}"
    return (
        line
        if len(line) <= WIDTH
        else "\n".join(["(", *(f"    {argument}," for argument in shown), f"){result}"])
    )


def _each(given: ast.arguments) -> Iterator[str]:
    positional = [argument for argument in given.args if argument.arg != "self"]
    missing = [None] * (len(positional) - len(given.defaults))
    for argument, default in zip(positional, [*missing, *given.defaults], strict=True):
        yield _argument(argument, default)
    if given.vararg:
        yield f"*{ast.unparse(given.vararg)}"
    elif given.kwonlyargs:
        yield "*"
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _argument(argument, default)
    if given.kwarg:
        yield f"**{ast.unparse(given.kwarg)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    shown = ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")
    for name, meaning in FUNCTIONS.items():
        shown = shown.replace(f": {name}", f": {meaning}")
    return shown


def _plain(argument: str) -> str:
    """With the quotes that Python's formatters write, and none around a type."""
    return argument.replace("'Flask'", "Flask").replace("'", '"')


def _functions(module: ModuleType) -> dict[str, str]:
    """The names that a module gives to types of functions, with what they stand for."""
    assigned = [it for it in ast.parse(inspect.getsource(module)).body if isinstance(it, ast.Assign)]
    pairs = ((ast.unparse(it.targets[0]), ast.unparse(it.value)) for it in assigned)
    return {name: value for name, value in pairs if value.startswith("Callable[")}


FUNCTIONS = _functions(telemetry) | _functions(watched) | _functions(redaction) | _functions(errors)
