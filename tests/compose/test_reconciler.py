"""A crowd of requests on this stack's Postgres, and a reconciler that is killed in the middle of its work."""

from __future__ import annotations

from compose_stack import ComposeStack
from crowd import check, play


def test_a_thousand_requests_for_fifty_models_come_to_their_end_once(stack: ComposeStack) -> None:
    stack.sql("DROP DATABASE IF EXISTS crowd WITH (FORCE)")
    stack.sql("CREATE DATABASE crowd")
    try:
        url = f"postgresql+psycopg2://postgres:{stack.env['POSTGRES_PASSWORD']}@{stack.address('postgres')}/crowd"
        check(*play(url, models=50, requests=1000, kills=2))
    finally:
        stack.sql("DROP DATABASE IF EXISTS crowd WITH (FORCE)")
