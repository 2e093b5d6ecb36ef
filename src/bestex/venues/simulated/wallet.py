"""The paper wallet: what the simulated chain's books say that it holds."""

from collections.abc import Mapping

from bestex.domain.errors import ChainUnreachableError
from bestex.ports import Balance, WalletTransaction
from bestex.venues.simulated.books import Books
from bestex.venues.simulated.ledger import LedgerUnavailableError


class PaperWallet:
    """`Wallet` of the simulated chain."""

    def __init__(self, address: str, books: Books) -> None:
        self.address = address
        self._books = books

    def held(self, mint: str) -> int | None:
        return self._books.balances.get(mint, 0)

    @property
    def units(self) -> Mapping[str, int]:
        """Base units by mint, of every token that it ever held."""
        return self._books.balances

    async def balances(self) -> list[Balance]:
        return [Balance(mint, units) for mint, units in self._books.balances.items()]

    async def history(self, before: str | None, limit: int) -> list[WalletTransaction]:
        try:
            rows = await self._books.latest(before, limit)
        except LedgerUnavailableError as error:
            raise ChainUnreachableError(f"the simulated chain's ledger is away: {error}") from error
        return [
            WalletTransaction(
                row.signature,
                row.slot,
                row.landed_us,
                row.order_id,
                row.attempt,
                row.venue,
                row.pool,
                row.mint_in,
                row.mint_out,
                row.asked_in or row.amount_in,
                row.amount_in,
                row.amount_out,
                row.network_fee,
                row.error,
            )
            for row in rows
        ]
