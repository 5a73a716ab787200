"""What the machine decides: device, precision, threads, processes, memory allocator."""
