"""What a machine is: specifications, catalogue, engines and memories, links, power, calibration."""
