//! What a table is like, and whether rows can be written to it. Asking is I/O, judging is pure.

use tokio_postgres::Client;

use super::failure::Failure;
use super::name::TableName;
use super::sql::{ROW_NUMBER, Upsert};

/// What the server says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// With the schema in which it was found.
    pub(super) name: TableName,
    /// `pg_class.relkind`.
    kind: String,
    /// `pg_class.relpersistence`.
    persistence: String,
    columns: Vec<Column>,
    /// The columns of each unique index that can decide whether a row is there.
    unique: Vec<Vec<String>>,
    /// A trigger may fill what is not written.
    has_insert_trigger: bool,
    /// Row security holds for this user: the server has no COPY then.
    has_row_security: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    not_null: bool,
    has_default: bool,
    /// Its values are the server's to make.
    is_generated: bool,
    /// Whether this user may write it in new rows. A right on the table is one on each of its columns.
    may_insert: bool,
    may_select: bool,
    may_update: bool,
}

const TABLE: &str = "\
    SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, \
        EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 7 = 7), \
        row_security_active(c.oid) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";

const COLUMNS: &str = "\
    SELECT a.attname, a.attnotnull, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, \
        a.attgenerated <> '' OR a.attidentity = 'a', has_column_privilege(a.attrelid, a.attnum, 'INSERT'), \
        has_column_privilege(a.attrelid, a.attnum, 'SELECT'), has_column_privilege(a.attrelid, a.attnum, 'UPDATE') \
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const UNIQUE: &str = "\
    SELECT array_agg(a.attname::text ORDER BY k.place) \
    FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place) \
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
        AND i.indexprs IS NULL AND k.place <= i.indnkeyatts \
    GROUP BY i.indexrelid";

impl Facts {
    /// Asks for a table; `None`: there is none that this user could see.
    pub(super) async fn of(client: &Client, name: &TableName) -> Result<Option<Self>, Failure> {
        let Some(row) = client.query_opt(TABLE, &[&name.sql()]).await? else { return Ok(None) };
        let id: u32 = row.try_get(0)?;
        let mut facts = Self {
            name: TableName { schema: Some(row.try_get(1)?), table: row.try_get(2)? },
            kind: row.try_get(3)?,
            persistence: row.try_get(4)?,
            columns: Vec::new(),
            unique: Vec::new(),
            has_insert_trigger: row.try_get(5)?,
            has_row_security: row.try_get(6)?,
        };
        for row in client.query(COLUMNS, &[&id]).await? {
            facts.columns.push(Column {
                name: row.try_get(0)?,
                not_null: row.try_get(1)?,
                has_default: row.try_get(2)?,
                is_generated: row.try_get(3)?,
                may_insert: row.try_get(4)?,
                may_select: row.try_get(5)?,
                may_update: row.try_get(6)?,
            });
        }
        for row in client.query(UNIQUE, &[&id]).await? {
            facts.unique.push(row.try_get(0)?);
        }
        Ok(Some(facts))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether rows of these columns can be written.
    ///
    /// # Errors
    /// Why not, and what would help.
    pub(super) fn check<S: AsRef<str>>(&self, written: &[S], upsert: Option<&Upsert>) -> Result<(), String> {
        if !matches!(self.kind.as_str(), "r" | "p") {
            return Err(
                "it is no table: a view, a sequence or a foreign table cannot promise what a commit needs".to_owned()
            );
        }
        if self.persistence == "u" {
            return Err("it is UNLOGGED, and a crash of the server would empty it".to_owned());
        }
        if self.persistence == "t" {
            return Err("it is temporary, and ends with its connection".to_owned());
        }
        self.check_columns(written)?;
        if let Some(name) = self.lacks(written, |column| column.may_insert) {
            return Err(format!("this user may not insert into its column \"{name}\""));
        }
        if self.has_row_security {
            return Err("it has row security, which this user does not bypass: there is no COPY then".to_owned());
        }
        upsert.map_or(Ok(()), |upsert| self.check_upsert(written, upsert))
    }

    /// The first of these columns that lacks a right.
    fn lacks<'a, S: AsRef<str>>(&self, names: &'a [S], has: impl Fn(&Column) -> bool) -> Option<&'a str> {
        let mut names = names.iter().map(AsRef::as_ref);
        names.find(|name| self.column(name).is_some_and(|column| !has(column)))
    }

    fn check_columns<S: AsRef<str>>(&self, written: &[S]) -> Result<(), String> {
        for name in written {
            let name = name.as_ref();
            match self.column(name) {
                None => {
                    let known: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
                    return Err(format!("it has no column \"{name}\": it has {}", known.join(", ")));
                }
                Some(column) if column.is_generated => {
                    return Err(format!("its column \"{name}\" is generated by the server and cannot be written"));
                }
                Some(_) => {}
            }
        }
        let is_written = |column: &Column| written.iter().any(|name| name.as_ref() == column.name);
        let needs = |column: &&Column| column.not_null && !column.has_default && !column.is_generated;
        match self.columns.iter().filter(needs).find(|column| !is_written(column)) {
            Some(column) if !self.has_insert_trigger => {
                Err(format!("its column \"{}\" is NOT NULL, has no default and is not written", column.name))
            }
            _ => Ok(()),
        }
    }

    fn check_upsert<S: AsRef<str>>(&self, written: &[S], upsert: &Upsert) -> Result<(), String> {
        let Upsert { keys, guard } = upsert;
        for (name, role) in keys.iter().map(|key| (key, "a key")).chain(guard.iter().map(|guard| (guard, "the guard")))
        {
            if self.column(name).is_some_and(|column| !column.not_null) {
                return Err(format!("its column \"{name}\" may be NULL, which {role} must not: make it NOT NULL"));
            }
        }
        if self.column(ROW_NUMBER).is_some() {
            return Err(format!("it has a column \"{ROW_NUMBER}\", a name that the sink uses itself"));
        }
        let is_key = |index: &&Vec<String>| index.len() == keys.len() && index.iter().all(|name| keys.contains(name));
        if !self.unique.iter().any(|index| is_key(&index)) {
            return Err(format!(
                "no unique index is on exactly its key columns ({}): make one (partial, deferrable and expression indexes do \
                 not count)",
                keys.join(", ")
            ));
        }
        // The staging table is made of all of them, and what overwrites is read.
        if let Some(name) = self.lacks(written, |column| column.may_select) {
            return Err(format!("this user may not read its column \"{name}\", which upserts do"));
        }
        match self.lacks(written, |column| column.may_update || keys.contains(&column.name)) {
            Some(name) => Err(format!("this user may not update its column \"{name}\", which upserts do")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, not_null: bool, has_default: bool, is_generated: bool) -> Column {
        let (may_insert, may_select, may_update) = (true, true, true);
        Column { name: name.to_owned(), not_null, has_default, is_generated, may_insert, may_select, may_update }
    }

    fn facts() -> Facts {
        Facts {
            name: TableName::parse("public.charges").unwrap(),
            kind: "r".to_owned(),
            persistence: "p".to_owned(),
            columns: vec![
                column("account", true, false, false),
                column("cents", false, false, false),
                column("at", true, true, false),
                column("total", false, true, true),
                column("version", true, true, false),
            ],
            unique: vec![vec!["at".to_owned()], vec!["account".to_owned(), "at".to_owned()]],
            has_insert_trigger: false,
            has_row_security: false,
        }
    }

    fn upsert(keys: &[&str], guard: Option<&str>) -> Upsert {
        Upsert { keys: keys.iter().map(|key| (*key).to_owned()).collect(), guard: guard.map(ToOwned::to_owned) }
    }

    #[test]
    fn a_table_that_fits_is_taken() {
        facts().check(&["account", "cents"], None).unwrap();
        facts().check(&["account", "at"], Some(&upsert(&["at", "account"], Some("version")))).unwrap();
        Facts { has_insert_trigger: true, ..facts() }.check(&["cents"], None).unwrap();
        Facts { kind: "p".to_owned(), ..facts() }.check(&["account"], None).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let all = ["account", "cents", "at"];
        for (facts, written, upsert, what) in [
            (facts(), &["account", "cent"][..], None, "no column \"cent\": it has account, cents, at, total, version"),
            (facts(), &["cents"], None, "\"account\" is NOT NULL, has no default and is not written"),
            (facts(), &["account", "total"], None, "\"total\" is generated"),
            (
                facts(),
                &all,
                Some(upsert(&["account"], None)),
                "no unique index is on exactly its key columns (account)",
            ),
            (facts(), &all, Some(upsert(&["account", "cents"], None)), "\"cents\" may be NULL, which a key"),
            (facts(), &all, Some(upsert(&["account", "at"], Some("cents"))), "\"cents\" may be NULL, which the guard"),
            (Facts { kind: "v".to_owned(), ..facts() }, &all, None, "no table"),
            (Facts { persistence: "u".to_owned(), ..facts() }, &all, None, "UNLOGGED"),
            (Facts { persistence: "t".to_owned(), ..facts() }, &all, None, "temporary"),
            (Facts { has_row_security: true, ..facts() }, &all, None, "row security"),
        ] {
            let error = facts.check(written, upsert.as_ref()).unwrap_err();
            assert!(error.contains(what), "{what}: {error}");
        }
    }

    /// As [`facts`], without a right on a column.
    fn without(name: &str, take: fn(&mut Column)) -> Facts {
        let mut facts = facts();
        facts.columns.iter_mut().filter(|column| column.name == name).for_each(take);
        facts
    }

    #[test]
    fn a_right_is_needed_on_each_column_that_is_written() {
        let written = ["account", "cents", "at"];
        let keys = upsert(&["at"], None);
        let error = without("cents", |column| column.may_insert = false).check(&written, None).unwrap_err();
        assert_eq!(error, "this user may not insert into its column \"cents\"");
        let no_select = without("cents", |column| column.may_select = false);
        let error = no_select.check(&written, Some(&keys)).unwrap_err();
        assert_eq!(error, "this user may not read its column \"cents\", which upserts do");
        no_select.check(&written, None).unwrap();
        let no_update = without("account", |column| column.may_update = false);
        let error = no_update.check(&written, Some(&keys)).unwrap_err();
        assert_eq!(error, "this user may not update its column \"account\", which upserts do");
        no_update.check(&written, None).unwrap();
        // A key stays as it is, and so does what is not written.
        without("at", |column| column.may_update = false).check(&written, Some(&keys)).unwrap();
        let others = without("version", |column| {
            (column.may_insert, column.may_select, column.may_update) = (false, false, false);
        });
        others.check(&written, Some(&keys)).unwrap();
    }
}
