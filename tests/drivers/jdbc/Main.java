// JDBC: what its users do. Each operation prints one line of JSON.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class Main {
  interface Operation { Object run(Connection c) throws Exception; }

  interface Call { Object run() throws Exception; }

  static final Map<String, Operation> OPS = new LinkedHashMap<>();

  static Connection connect(String... more) throws SQLException {
    Map<String, String> env = System.getenv();
    Properties p = new Properties();
    p.setProperty("user", env.get("PGUSER"));
    p.setProperty("password", env.get("PGPASSWORD"));
    p.setProperty("sslmode", "verify-full");
    p.setProperty("sslrootcert", env.get("PGSSLROOTCERT"));
    for (int n = 0; n + 1 < more.length; n += 2) p.setProperty(more[n], more[n + 1]);
    return DriverManager.getConnection("jdbc:postgresql://localhost:" + env.get("PGPORT") + "/" + env.get("PGDATABASE"), p);
  }

  static Object why(SQLException e) {
    Map<String, Object> seen = new TreeMap<>();
    seen.put("state", e.getSQLState());
    ServerErrorMessage m = e instanceof PSQLException p ? p.getServerErrorMessage() : null;
    if (m == null) {
      seen.put("text", String.valueOf(e.getMessage()));
      return seen;
    }
    Object[] fields = {m.getSeverity(), m.getMessage(), m.getDetail(), m.getHint(), m.getPosition(), m.getInternalPosition(), m.getWhere(), m.getSchema(), m.getTable(), m.getColumn(), m.getDatatype(), m.getConstraint(), m.getRoutine()};
    seen.put("fields", Arrays.asList(fields));
    if (e.getNextException() != null && e.getNextException() != e) seen.put("next", why(e.getNextException()));
    return seen;
  }

  static Object attempt(Call call) throws Exception {
    try {
      return call.run();
    } catch (SQLException e) {
      return why(e);
    }
  }

  static Object rows(ResultSet r) throws SQLException {
    ResultSetMetaData m = r.getMetaData();
    List<Object> all = new ArrayList<>();
    List<Object> columns = new ArrayList<>();
    for (int n = 1; n <= m.getColumnCount(); n++) columns.add(m.getColumnName(n) + ":" + m.getColumnTypeName(n) + ":" + m.getPrecision(n) + ":" + m.isNullable(n) + ":" + m.getTableName(n));
    all.add(columns);
    while (r.next()) {
      List<Object> row = new ArrayList<>();
      for (int n = 1; n <= m.getColumnCount(); n++) row.add(m.getColumnType(n) == Types.BINARY ? Arrays.toString(r.getBytes(n)) : text(r.getString(n)));
      all.add(row);
    }
    return all;
  }

  /** A procedure's specific name ends in its oid. */
  static String text(String value) { return value == null ? null : value.replaceAll("^(chunks|refresh|deep|complain|audit)_[0-9]+$", "$1"); }

  static Object query(Connection c, String sql, Object... values) throws Exception {
    return attempt(() -> {
      try (PreparedStatement s = c.prepareStatement(sql)) {
        for (int n = 0; n < values.length; n++) s.setObject(n + 1, values[n]);
        return s.execute() ? rows(s.getResultSet()) : s.getUpdateCount();
      }
    });
  }

  static Object simple(Connection c, String sql) throws Exception {
    return attempt(() -> {
      List<Object> seen = new ArrayList<>();
      try (Statement s = c.createStatement()) {
        boolean more = s.execute(sql);
        while (more || s.getUpdateCount() >= 0) {
          seen.add(more ? rows(s.getResultSet()) : s.getUpdateCount());
          more = s.getMoreResults();
        }
        for (SQLWarning w = s.getWarnings(); w != null; w = w.getNextWarning()) seen.add("warning: " + w.getSQLState() + " " + w.getMessage());
      }
      return seen;
    });
  }

  static Object inModes(String... texts) throws Exception {
    Map<String, Object> seen = new TreeMap<>();
    for (String mode : List.of("simple", "extended", "extendedForPrepared", "extendedCacheEverything")) {
      try (Connection c = connect("preferQueryMode", mode)) {
        List<Object> each = new ArrayList<>();
        for (String text : texts) each.add(simple(c, text));
        seen.put(mode, each);
      }
    }
    return seen;
  }

  static {
    OPS.put("types", c -> {
      List<Object> seen = new ArrayList<>();
      // From the fifth time on the statement is prepared and the values come in binary.
      try (PreparedStatement s = c.prepareStatement("select * from typed")) {
        for (int n = 0; n < 7; n++) seen.add(rows(s.executeQuery()));
      }
      return List.of(seen.get(0), seen.get(6), new HashSet<>(seen).size());
    });
    OPS.put("parameters", c -> {
      List<Object> seen = new ArrayList<>();
      Object[][] values = {{"?::boolean", true}, {"?::int", 5}, {"?::bigint", 1L << 40}, {"?::float8", 1.5}, {"?::numeric", new java.math.BigDecimal("1e-20")}, {"?::text", "ü€😀"}, {"?::bytea", new byte[] {0, -1}}, {"?::date", java.sql.Date.valueOf("2020-02-29")},
          {"?::timestamp", Timestamp.valueOf("2020-01-01 01:02:03.456")}, {"?::uuid", new UUID(1, 2)}, {"?::timestamptz", java.time.OffsetDateTime.parse("2020-01-01T00:00:00Z")}, {"?::int[]", c.createArrayOf("int4", new Object[] {1, null})}, {"?::text", null}};
      for (Object[] value : values) for (int n = 0; n < 6; n++) if (n == 0 || n == 5) seen.add(query(c, "select " + value[0], value[1])); else query(c, "select " + value[0], value[1]);
      seen.add(query(c, "select ?::int", "not a number"));
      return seen;
    });
    OPS.put("query_modes", c -> inModes("select 1 as a; select 2 as b", "insert into scratch values (1, 'x'); select 1/0; select 2", "", "select 'x'::integer", "begin; select 1", "select 1/0", "select 1", "rollback", "select count(*) from scratch", "selec 1"));
    OPS.put("errors", c -> {
      List<Object> seen = new ArrayList<>();
      for (String text : List.of("selec 1", "select nope", "select 1/0", "insert into shop.customers values (1, 'x')", "insert into shop.orders values (5000, 5000)", "select shop.complain('loud')", "select shop.deep(0)", "select '-1'::shop.positive", "vacuum; select 1", "select ?"))
        seen.add(List.of(text, query(c, text)));
      return seen;
    });
    OPS.put("fetch_size", c -> {
      c.setAutoCommit(false);
      List<Object> seen = new ArrayList<>();
      try (PreparedStatement s = c.prepareStatement("select id from shop.orders where id > ? order by id")) {
        s.setFetchSize(37);
        s.setInt(1, 10);
        long sum = 0;
        ResultSet r = s.executeQuery();
        while (r.next()) sum += r.getInt(1);
        seen.add(sum);
        s.setMaxRows(5);
        seen.add(rows(s.executeQuery()));
      }
      try (Statement s = c.createStatement(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
        s.setFetchSize(3);
        seen.add(attempt(() -> rows(s.executeQuery("select 100 / (5 - n) from generate_series(1, 100) as n"))));
      }
      seen.add(query(c, "select 1"));
      c.rollback();
      seen.add(query(c, "select 2"));
      c.commit();
      return seen;
    });
    OPS.put("batches", c -> {
      List<Object> seen = new ArrayList<>();
      for (String rewrite : List.of("false", "true")) {
        try (Connection d = connect("reWriteBatchedInserts", rewrite); PreparedStatement s = d.prepareStatement("insert into scratch values (?, ?)")) {
          d.createStatement().execute("truncate scratch");
          for (int n = 0; n < 500; n++) { s.setInt(1, n); s.setString(2, "b" + n); s.addBatch(); }
          seen.add(Arrays.stream(s.executeBatch()).sum() != 0);
          for (int n = 600; n < 700; n++) { s.setInt(1, n == 650 ? 1 : n); s.setString(2, "again"); s.addBatch(); }
          seen.add(attempt(() -> s.executeBatch().length));
          seen.add(query(d, "select count(*), max(id) from scratch"));
          try (Statement t = d.createStatement()) {
            t.addBatch("insert into scratch values (800, 'x')");
            t.addBatch("select 1/0");
            t.addBatch("insert into scratch values (801, 'x')");
            seen.add(attempt(() -> t.executeBatch().length));
          }
          seen.add(query(d, "select count(*) from scratch where id >= 800"));
        }
      }
      return seen;
    });
    OPS.put("generated_keys", c -> {
      try (PreparedStatement s = c.prepareStatement("insert into scratch values (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
        s.setInt(1, 901);
        s.setString(2, "k");
        s.executeUpdate();
        return rows(s.getGeneratedKeys());
      }
    });
    OPS.put("transactions", c -> {
      List<Object> seen = new ArrayList<>();
      simple(c, "truncate scratch");
      c.setAutoCommit(false);
      c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
      seen.add(query(c, "insert into scratch values (11, 'kept')"));
      Savepoint s = c.setSavepoint("s");
      seen.add(query(c, "select 1/0"));
      seen.add(query(c, "select 1"));
      c.rollback(s);
      seen.add(query(c, "insert into scratch values (12, 'kept')"));
      c.commit();
      seen.add(query(c, "select 1/0"));
      seen.add(attempt(() -> { c.commit(); return "committed"; }));
      c.rollback();
      c.setReadOnly(true);
      seen.add(query(c, "insert into scratch values (13, 'no')"));
      c.rollback();
      c.setReadOnly(false);
      seen.add(query(c, "set constraints all deferred"));
      seen.add(query(c, "insert into shop.orders values (6000, 6000)"));
      seen.add(attempt(() -> { c.commit(); return "committed"; }));
      c.setAutoCommit(true);
      seen.add(query(c, "select * from scratch order by id"));
      return seen;
    });
    OPS.put("autosave", c -> {
      List<Object> seen = new ArrayList<>();
      for (String autosave : List.of("always", "conservative")) {
        try (Connection d = connect("autosave", autosave)) {
          d.setAutoCommit(false);
          seen.add(query(d, "select 1"));
          seen.add(query(d, "select 1/0"));
          seen.add(query(d, "select 2"));
          d.commit();
        }
      }
      return seen;
    });
    OPS.put("schema_changes", c -> {
      List<Object> seen = new ArrayList<>();
      simple(c, "create table changing (a integer); insert into changing values (1)");
      try (PreparedStatement s = c.prepareStatement("select * from changing")) {
        for (int n = 0; n < 7; n++) s.executeQuery().close();
        simple(c, "alter table changing add column b text default 'new'");
        seen.add(attempt(() -> rows(s.executeQuery())));
        c.setAutoCommit(false);
        for (int n = 0; n < 7; n++) s.executeQuery().close();
        simple(c, "alter table changing add column d integer");
        seen.add(attempt(() -> rows(s.executeQuery())));
        c.rollback();
        c.setAutoCommit(true);
      }
      seen.add(simple(c, "drop table changing"));
      return seen;
    });
    OPS.put("metadata", c -> {
      DatabaseMetaData m = c.getMetaData();
      List<Object> seen = new ArrayList<>(List.of(m.getDatabaseProductVersion(), m.getUserName(), m.supportsTransactions()));
      seen.add(rows(m.getTables(null, "shop", "%", null)));
      seen.add(rows(m.getColumns(null, "shop", "customers", "%")));
      seen.add(rows(m.getPrimaryKeys(null, "shop", "orders")));
      seen.add(rows(m.getImportedKeys(null, "shop", "orders")));
      seen.add(rows(m.getIndexInfo(null, "shop", "orders", false, false)));
      seen.add(rows(m.getProcedures(null, "shop", "%")));
      seen.add(rows(m.getSchemas()));
      seen.add(rows(m.getUDTs(null, "shop", "%", null)));
      seen.add(((List<?>) rows(m.getTypeInfo())).size() > 50);
      try (PreparedStatement s = c.prepareStatement("select id, name from shop.customers where id = ? and balance > ?")) {
        ParameterMetaData p = s.getParameterMetaData();
        seen.add(p.getParameterTypeName(1) + p.getParameterTypeName(2) + s.getMetaData().getColumnName(2));
      }
      return seen;
    });
    OPS.put("callables", c -> {
      List<Object> seen = new ArrayList<>();
      try (CallableStatement s = c.prepareCall("{? = call upper(?)}")) {
        s.registerOutParameter(1, Types.VARCHAR);
        s.setString(2, "loud");
        s.execute();
        seen.add(s.getString(1));
      }
      seen.add(query(c, "call shop.chunks(3)"));
      c.setAutoCommit(false);
      try (CallableStatement s = c.prepareCall("{? = call shop.refresh()}")) {
        s.registerOutParameter(1, Types.OTHER);
        s.execute();
        seen.add(rows((ResultSet) s.getObject(1)));
      }
      seen.add(query(c, "call shop.chunks(3)"));
      c.rollback();
      c.setAutoCommit(true);
      return seen;
    });
    OPS.put("updatable_results", c -> {
      simple(c, "insert into scratch values (21, 'a'), (22, 'b')");
      try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
        ResultSet r = s.executeQuery("select id, note from scratch where id in (21, 22) order by id");
        r.absolute(2);
        r.updateString(2, "changed");
        r.updateRow();
        r.first();
        r.deleteRow();
      }
      return query(c, "select * from scratch where id in (21, 22)");
    });
    OPS.put("copies", c -> {
      List<Object> seen = new ArrayList<>();
      CopyManager m = c.unwrap(PGConnection.class).getCopyAPI();
      StringBuilder text = new StringBuilder();
      for (int n = 1000; n < 4000; n++) text.append(n).append("\tcopied\n");
      seen.add(m.copyIn("copy scratch from stdin", new StringReader(text.toString())));
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      seen.add(m.copyOut("copy (select * from scratch where id between 1000 and 1003 order by id) to stdout (format csv, header)", out));
      seen.add(out.toString(StandardCharsets.UTF_8));
      out.reset();
      seen.add(m.copyOut("copy shop.customers to stdout (format binary)", out));
      seen.add(Arrays.hashCode(out.toByteArray()));
      seen.add(attempt(() -> m.copyIn("copy scratch from stdin", new ByteArrayInputStream("x\ty\n".getBytes(StandardCharsets.UTF_8)))));
      seen.add(attempt(() -> { var in = m.copyIn("copy scratch from stdin"); byte[] b = "9000\tx\n".getBytes(StandardCharsets.UTF_8); in.writeToCopy(b, 0, b.length); in.cancelCopy(); return "cancelled"; }));
      seen.add(attempt(() -> m.copyOut("copy (select 1/0) to stdout", new ByteArrayOutputStream())));
      seen.add(query(c, "select count(*), sum(id) from scratch where id >= 1000"));
      return seen;
    });
    OPS.put("notifications", c -> {
      simple(c, "listen news");
      try (Connection other = connect()) {
        simple(other, "notify news, 'one'");
        query(other, "select pg_notify(?, ?)", "news", "two");
      }
      List<Object> seen = new ArrayList<>();
      for (int n = 0; n < 50 && seen.size() < 2; n++) {
        PGNotification[] got = c.unwrap(PGConnection.class).getNotifications(200);
        if (got != null) for (PGNotification g : got) seen.add(g.getName() + ":" + g.getParameter());
      }
      return seen;
    });
    OPS.put("cancel_and_timeout", c -> {
      List<Object> seen = new ArrayList<>();
      try (Statement s = c.createStatement()) {
        s.setQueryTimeout(1);
        seen.add(attempt(() -> s.execute("select pg_sleep(60)")));
      }
      try (Statement s = c.createStatement()) {
        ScheduledExecutorService later = Executors.newSingleThreadScheduledExecutor();
        later.schedule(() -> { s.cancel(); return null; }, 300, TimeUnit.MILLISECONDS);
        seen.add(attempt(() -> s.execute("select pg_sleep(60)")));
        later.shutdown();
      }
      seen.add(query(c, "select 1"));
      return seen;
    });
    OPS.put("warnings", c -> simple(c, "do $$ begin raise notice 'n'; raise warning 'w'; end $$; drop table if exists nowhere"));
    OPS.put("large", c -> {
      String text = "0123456789".repeat(600_000);
      try (Statement s = c.createStatement()) {
        return List.of(query(c, "select md5(?)", text), ((List<?>) query(c, "select n, n::text from generate_series(1, 40000) as n")).size(), s.executeQuery("select repeat('x', 20000000)").next());
      }
    });
    OPS.put("large_objects", c -> attempt(() -> {
      c.setAutoCommit(false);
      var api = c.unwrap(PGConnection.class).getLargeObjectAPI();
      long id = api.createLO();
      var object = api.open(id);
      object.write("content".getBytes(StandardCharsets.UTF_8));
      object.close();
      api.delete(id);
      c.commit();
      return "written";
    }));
  }

  static void json(Object value, StringBuilder out) {
    if (value == null || value instanceof Number || value instanceof Boolean) out.append(value);
    else if (value instanceof Map<?, ?> map) {
      out.append('{');
      String comma = "";
      for (var entry : map.entrySet()) { out.append(comma); json(String.valueOf(entry.getKey()), out); out.append(':'); json(entry.getValue(), out); comma = ","; }
      out.append('}');
    } else if (value instanceof Collection<?> list) {
      out.append('[');
      String comma = "";
      for (Object entry : list) { out.append(comma); json(entry, out); comma = ","; }
      out.append(']');
    } else {
      out.append('"');
      for (char ch : value.toString().toCharArray()) {
        if (ch == '"' || ch == '\\') out.append('\\').append(ch);
        else if (ch < 32) out.append(String.format("\\u%04x", (int) ch));
        else out.append(ch);
      }
      out.append('"');
    }
  }

  public static void main(String[] wanted) throws Exception {
    for (var entry : OPS.entrySet()) {
      if (wanted.length > 0 && !Arrays.asList(wanted).contains(entry.getKey())) continue;
      Object out;
      try (Connection c = connect()) {
        out = entry.getValue().run(c);
      } catch (Exception e) {
          if (System.getenv("COUNTERSIGN_TRACE") != null) e.printStackTrace();
        out = Map.of("failed", e.toString());
      }
      StringBuilder line = new StringBuilder();
      json(new TreeMap<>(Map.of("op", entry.getKey(), "out", out == null ? "null" : out)), line);
      System.out.println(line);
    }
    System.exit(0);
  }
}
