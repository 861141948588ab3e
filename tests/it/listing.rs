//! Polling and reconciliation, against stand-ins and real stores.
