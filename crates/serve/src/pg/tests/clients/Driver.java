// What programs do with PostgreSQL's JDBC driver: java -cp postgresql.jar Driver.java URL USER PASSWORD QUERIES
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.*;
import java.util.*;

public class Driver {
    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) values.add(rows.getString(name));
        return values;
    }

    public static void main(String[] args) throws Exception {
        try (Connection connection = DriverManager.getConnection(args[0], args[1], args[2])) {
            int failed = 0;
            for (String sql : Files.readString(Path.of(args[3])).split("(?m);$")) {
                if (sql.isBlank()) continue;
                try (Statement statement = connection.createStatement()) {
                    statement.execute(sql);
                } catch (SQLException e) {
                    failed++;
                    System.err.println(sql.strip() + "\n  " + e.getSQLState() + " " + e.getMessage());
                }
            }
            check(failed == 0, failed + " queries of DBeaver fail");

            DatabaseMetaData metadata = connection.getMetaData();
            List<String> tables = column(metadata.getTables(null, "public", "%", null), "TABLE_NAME");
            check(tables.containsAll(List.of("orders", "typed", "few", "cheap")), "tables " + tables);
            Map<String, Integer> types = new TreeMap<>();
            try (ResultSet columns = metadata.getColumns(null, "public", "typed", null)) {
                while (columns.next()) types.put(columns.getString("COLUMN_NAME"), columns.getInt("DATA_TYPE"));
            }
            check(types.get("id") == Types.BIGINT && types.get("name") == Types.VARCHAR
                && types.get("price") == Types.DOUBLE && types.get("at") == Types.TIMESTAMP, "types " + types);
            check(column(metadata.getSchemas(), "TABLE_SCHEM").contains("public"), "schemas");

            // More than prepareThreshold times: then the driver names the statement, and takes binary values.
            try (PreparedStatement prepared = connection.prepareStatement(
                    "SELECT id, name, price, at FROM typed WHERE id >= ? AND name <> ? ORDER BY id")) {
                for (int i = 0; i < 8; i++) {
                    prepared.setLong(1, 2);
                    prepared.setString(2, "n3");
                    try (ResultSet rows = prepared.executeQuery()) {
                        check(rows.next() && rows.getLong("id") == 2 && rows.getDouble("price") == 2.5, "the first row");
                        check(rows.getTimestamp("at").toLocalDateTime().getSecond() == 2, "its time");
                        check(rows.next() && rows.getString("name").equals("n4") && !rows.next(), "the second row");
                    }
                }
            }

            connection.setAutoCommit(false);
            connection.setReadOnly(true);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(30);
                int rows = 0;
                try (ResultSet result = statement.executeQuery("SELECT * FROM orders")) {
                    while (result.next()) rows++;
                }
                check(rows == 190, rows + " rows with a fetch size");
            }
            connection.commit();
            connection.setAutoCommit(true);

            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery("SELECT count(*) FROM generate_series(1, 100000000000)");
                check(false, "no timeout");
            } catch (SQLException e) {
                check(e.getSQLState().equals("57014"), "the timeout: " + e);
            }
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("INSERT INTO orders (value) VALUES ('x')");
                check(false, "INSERT");
            } catch (SQLException e) {
                check(e.getSQLState().equals("25006"), "INSERT: " + e);
            }
            try (Statement statement = connection.createStatement()) {
                ResultSet rows = statement.executeQuery("SELECT count(*) FROM few");
                check(rows.next() && rows.getInt(1) == 3, "few");
                SQLWarning warning = statement.getWarnings();
                check(warning != null && warning.getMessage().equals("read 3 offsets of orders: 3 records"), "a warning: " + warning);
            }
        }
        System.out.println("done");
    }
}
