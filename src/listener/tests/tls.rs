//! Certificates: what is refused at start, what is taken over while running.
