//! Redshift for tests: a PostgreSQL server behind a door that knows `COPY … FROM 's3://…' … MANIFEST`.
//!
//! What enters: PostgreSQL's protocol, without TLS. What leaves: the same, message by message, to the server behind it. A `COPY` from
//! S3 does not pass: the door reads manifest and files from the bucket, runs statements that PostgreSQL knows on the client's own
//! connection, so in its transaction, and answers as Redshift would ([`Copies`]). What Redshift has beside that (`stl_load_errors`,
//! `pg_last_copy_count()`, …) is made in the database ([`SYSTEM`]).
//!
//! What it does not play: Redshift's types, its isolation, and the cluster's own way to the bucket: role and region are read over.

mod bucket;
mod copy;
mod door;

pub use bucket::Bucket;
pub use copy::{Connection, Copies, Files, SYSTEM};
pub use door::Redshift;
