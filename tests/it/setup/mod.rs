//! `postern setup`, against LocalStack and Ceph RGW.
