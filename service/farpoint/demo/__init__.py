"""The whole product on one machine, on real video."""
