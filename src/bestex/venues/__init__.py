"""Where quotes come from and swaps go to: pool math; adapters of the Venue, Chain and MarketData ports."""
