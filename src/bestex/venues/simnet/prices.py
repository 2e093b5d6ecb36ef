"""Ticks as they go over the wire."""

from bestex.domain.tokens import Pair
from bestex.ports import Curve, Tick
from bestex.venues.simnet.wire import WireCpmm, WireDamm, WireTick
from bestex.venues.simulated.curves import CpmmCurve, DammCurve


def wire_tick(tick: Tick) -> WireTick:
    return WireTick(
        tick.pair.base.mint, tick.pair.quote.mint, tick.slot, tick.at_us, [_wire_curve(each) for each in tick.curves]
    )


def tick_of(wire: WireTick, pair: Pair) -> Tick:
    """`pair` has the tick's mints."""
    return Tick(pair, wire.slot, wire.at_us, tuple([curve_of(each) for each in wire.curves]))


def _wire_curve(curve: Curve) -> WireCpmm | WireDamm:
    match curve:
        case CpmmCurve(venue, pool, base, quote, fee_ppm):
            return WireCpmm(venue, pool, str(base), str(quote), fee_ppm)
        case DammCurve(venue, pool, liquidity, sqrt_price, fee_billionths, fee_mode, base_is_a):
            return WireDamm(venue, pool, str(liquidity), str(sqrt_price), fee_billionths, fee_mode, base_is_a)
        case _:
            raise TypeError(f"no wire form of {type(curve).__name__}")


def curve_of(wire: WireCpmm | WireDamm) -> CpmmCurve | DammCurve:
    match wire:
        case WireCpmm(venue, pool, base, quote, fee_ppm):
            return CpmmCurve(venue, pool, int(base), int(quote), fee_ppm)
        case WireDamm(venue, pool, liquidity, sqrt_price, fee_billionths, fee_mode, base_is_a):
            return DammCurve(venue, pool, int(liquidity), int(sqrt_price), fee_billionths, fee_mode, base_is_a)
