"""What lies between edge and cloud: modelled, emulated with real packets, and measured."""
