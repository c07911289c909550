// Reads a table of every type, all of it masked, by node-postgres, in text and in binary.
import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'

const { Client } = createRequire(path.join(process.cwd(), 'x.js'))('pg')
const env = process.env
const client = new Client({
  host: 'localhost', port: Number(env.PGPORT), database: env.PGDATABASE, user: env.PGUSER, password: env.PGPASSWORD,
  ssl: { ca: fs.readFileSync(env.PGSSLROOTCERT, 'utf8') },
})
await client.connect()
for (const query of [
  { text: 'select * from shapes order by id' },
  { text: 'select * from shapes order by id', rowMode: 'array', name: 'kept' },
  { text: 'select * from shapes where id > $1 order by id', values: [0], binary: true },
]) {
  const { rows } = await client.query(query)
  const nulls = Object.values(rows[2]).slice(1)
  if (rows.length !== 3 || nulls.some((value) => value !== null)) throw new Error(`${JSON.stringify(query)}: ${JSON.stringify(rows)}`)
  console.log(`node-postgres${query.binary ? ' binary' : ''}: ${rows.length} rows`)
  console.error(JSON.stringify(rows))
}
await client.end()
