"""A busy port is told in words, with the setting that changes it, before anything starts."""

from __future__ import annotations

import contextlib
import socket

from deployments.stack.settings import PORTS, StackError, StackSettings


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on ``host:port`` at this moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(host: str = "127.0.0.1") -> dict[str, int]:
    """A free port for every setting of `PORTS`, for stacks beside the one of the defaults."""
    with contextlib.ExitStack() as held:
        found: dict[str, int] = {}
        for name in PORTS:
            probe = held.enter_context(socket.socket())
            probe.bind((host, 0))
            found[name] = probe.getsockname()[1]
        return found


def free_port_variables() -> dict[str, str]:
    """`free_ports` as environment variables."""
    return {f"APP_CONNECT_{name.upper()}": str(port) for name, port in free_ports().items()}


def require_free_ports(settings: StackSettings) -> None:
    """Check every port of the stack.

    Raises:
        StackError: a port is taken, or two settings name the same one.
    """
    seen: dict[int, str] = {}
    for field, name in PORTS.items():
        port: int = getattr(settings, field)
        variable = f"APP_CONNECT_{field.upper()}"
        if port in seen:
            raise StackError(
                f"{variable} と {seen[port]} に同じポート番号 {port} が設定されています。"
                "どちらかを別の番号にしてください。"
            )
        seen[port] = variable
        if not is_free(settings.host, port):
            other = port + 10000 if port < 50000 else 18000
            raise StackError(
                f"ポート {port} は、ほかのプログラムが使用中のため、{name} を起動できません。\n"
                f"対処: そのプログラムを終了するか、環境変数 {variable} に空いている番号を設定して"
                f"起動し直してください（例: {variable}={other}）。"
            )
