import java.sql.*;
import java.util.*;

/** Reads a table of every type, all of it masked, in text and in binary. */
public class Masked {
  public static void main(String[] arguments) throws Exception {
    Map<String, String> env = System.getenv();
    for (String threshold : new String[] {"0", "-1"}) {
      Properties p = new Properties();
      p.setProperty("user", env.get("PGUSER"));
      p.setProperty("password", env.get("PGPASSWORD"));
      p.setProperty("sslmode", "verify-full");
      p.setProperty("sslrootcert", env.get("PGSSLROOTCERT"));
      // -1: server-prepared and binary from the first execution on.
      p.setProperty("prepareThreshold", threshold);
      String url = "jdbc:postgresql://localhost:" + env.get("PGPORT") + "/" + env.get("PGDATABASE");
      try (Connection connection = DriverManager.getConnection(url, p);
           PreparedStatement statement = connection.prepareStatement("select * from shapes where id > ? order by id")) {
        for (int run = 0; run < 3; run++) {
          statement.setInt(1, 0);
          int rows = 0;
          try (ResultSet result = statement.executeQuery()) {
            while (result.next()) {
              rows++;
              for (int column = 1; column <= result.getMetaData().getColumnCount(); column++) {
                Object value = result.getObject(column);
                if (rows == 3 && column > 1 && value != null) throw new IllegalStateException("column " + column + ": a NULL is no NULL any more");
                System.err.print(value instanceof java.sql.Array a ? Arrays.toString((Object[]) a.getArray()) : value);
                System.err.print(" | ");
              }
              System.err.println();
            }
          }
          if (rows != 3) throw new IllegalStateException(rows + " rows");
        }
        System.out.println("JDBC" + (threshold.equals("0") ? "" : " binary") + ": 3 rows");
      }
    }
  }
}
