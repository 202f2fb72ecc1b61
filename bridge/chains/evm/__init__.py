"""The adapter to EVM chains. The only place that knows web3."""
