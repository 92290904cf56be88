"""Accounting: what each layer of a stack does to requests and connections, and how long it takes."""

from __future__ import annotations

from meshcore.accounting.account import Account
from meshcore.accounting.ledger import Ledger
from meshcore.accounting.places import accounted

__all__ = ["Account", "Ledger", "accounted"]
