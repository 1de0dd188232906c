"""A busy port is told in words, with the setting that changes it, before anything starts."""

from __future__ import annotations

import socket

from deployments.stack.settings import StackError, StackSettings

_NAMES = {
    "prefect_port": "Prefect（画面とAPI）",
    "kintone_port": "kintone エミュレーター",
    "bugyo_port": "奉行クラウド エミュレーター",
}


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


def require_free_ports(settings: StackSettings) -> None:
    """Check every port of the stack.

    Raises:
        StackError: a port is taken, or two settings name the same one.
    """
    seen: dict[int, str] = {}
    for field, name in _NAMES.items():
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
