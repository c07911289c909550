// node-postgres: what its users do, with pg-cursor, pg-query-stream and pg-copy-streams. Each operation prints one line of JSON.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'

// The modules lie beside the folder this was started in, not beside this file.
const require = createRequire(process.cwd() + '/x.js')
const pg = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')

const options = { host: 'localhost', ssl: { ca: readFileSync(process.env.PGSSLROOTCERT), rejectUnauthorized: true } }

async function connect(more = {}) {
  const client = new pg.Client({ ...options, ...more })
  client.on('error', () => {})
  await client.connect()
  return client
}

function why(error) {
  const names = ['severity', 'code', 'message', 'detail', 'hint', 'position', 'internalPosition', 'where', 'schema', 'table', 'column', 'dataType', 'constraint']
  return Object.fromEntries(names.map((name) => [name, error[name]]))
}

function result(r) {
  if (Array.isArray(r)) return r.map(result)
  return { command: r.command, count: r.rowCount, fields: r.fields?.map((f) => [f.name, f.dataTypeID < 16384 ? f.dataTypeID : 'own', f.dataTypeModifier, f.format]), rows: r.rows }
}

const attempt = (promise) => promise.then((r) => (r && r.command !== undefined ? result(r) : Array.isArray(r) ? result(r) : r), why)

const ops = {
  async types(c) {
    return [await attempt(c.query('select * from typed')), await attempt(c.query({ text: 'select * from typed', binary: true }))]
  },
  async parameters(c) {
    const values = [true, 1, 1.5, 'ü€😀', null, new Date(0), Buffer.from([0, 255]), [1, 2, null], ['a"b', null], { a: 1 }]
    const casts = ['bool', 'int', 'float8', 'text', 'text', 'timestamptz', 'bytea', 'int[]', 'text[]', 'jsonb']
    const seen = []
    for (let n = 0; n < values.length; n++) seen.push(await attempt(c.query(`select $1::${casts[n]} as it`, [values[n]])))
    return seen
  },
  async named_statements(c) {
    const seen = []
    for (const id of [1, 2, 3]) seen.push(await attempt(c.query({ name: 'by-id', text: 'select name from shop.customers where id = $1', values: [id] })))
    seen.push(await attempt(c.query({ name: 'by-id', text: 'select 1', values: [] })))
    seen.push(await attempt(c.query('select statement from pg_prepared_statements')))
    seen.push(await attempt(c.query({ name: 'broken', text: 'selec', values: [] })))
    seen.push(await attempt(c.query({ name: 'broken', text: 'select 2 as two', values: [] })))
    seen.push(await attempt(c.query('deallocate "by-id"')))
    seen.push(await attempt(c.query({ name: 'by-id', text: 'select name from shop.customers where id = $1', values: [4] })))
    return seen
  },
  async schema_changes(c) {
    await c.query('create table changing (a integer); insert into changing values (1)')
    const query = { name: 'all', text: 'select * from changing', values: [] }
    const seen = [await attempt(c.query(query))]
    await c.query("alter table changing add column b text default 'new'")
    seen.push(await attempt(c.query(query)), await attempt(c.query({ ...query, name: 'all again' })), await attempt(c.query('drop table changing')))
    return seen
  },
  async several_statements(c) {
    const texts = ['select 1 as a; select 2 as b, 3 as c', 'insert into scratch values (1, 1); select 1/0; select 2', 'begin; insert into scratch values (2, 2); commit; select 1/0', '', ';', '-- nothing', 'select', 'select * from scratch order by id']
    const seen = []
    for (const text of texts) seen.push(await attempt(c.query(text)))
    seen.push(await attempt(c.query('select 1; select 2', [])), await attempt(c.query('select $1::int; select 2', [1])))
    return seen
  },
  async errors(c) {
    const texts = ['selec 1', 'select nope', 'select 1/0', "insert into shop.customers values (1, 'x')", 'insert into shop.orders values (5000, 5000)', "select shop.complain('loud')", 'select shop.deep(0)', "select '-1'::shop.positive"]
    const seen = []
    for (const text of texts) seen.push(await attempt(c.query(text)), await attempt(c.query({ text, values: [], queryMode: 'extended' })))
    return seen
  },
  async transactions(c) {
    const seen = []
    for (const text of ['begin', 'insert into scratch values (11, 1)', 'savepoint s', 'select 1/0', 'select 1', 'rollback to s', 'insert into scratch values (12, 1)', 'commit', 'begin isolation level serializable read only', 'insert into scratch values (13, 1)', 'commit', 'select * from scratch order by id'])
      seen.push([text, await attempt(c.query(text, text.startsWith('insert') ? [] : undefined))])
    return seen
  },
  async many_at_once(c) {
    const calls = []
    for (let n = 0; n < 200; n++) calls.push(attempt(c.query('select $1::int as n', [n])))
    calls.push(attempt(c.query('select 1/0')), attempt(c.query('select $1::int / 0', [1])), attempt(c.query('select 5 as five')))
    return createHash('sha256').update(JSON.stringify(await Promise.all(calls))).digest('hex')
  },
  async cursors(c) {
    const cursor = c.query(new Cursor('select id, name from shop.customers where id > $1 order by id', [5]))
    const seen = [await cursor.read(3), await cursor.read(2), (await cursor.read(1000)).length, await cursor.read(1)]
    await cursor.close()
    const early = c.query(new Cursor('select generate_series(1, 1000)'))
    seen.push(await early.read(2))
    await early.close()
    const failing = c.query(new Cursor('select 100 / (5 - n) from generate_series(1, 100) as n'))
    seen.push(await failing.read(2), await attempt(failing.read(10)))
    seen.push(await attempt(c.query('select 1')))
    return seen
  },
  async streams(c) {
    let sum = 0
    for await (const row of c.query(new QueryStream('select n from generate_series(1, 3000) as n', [], { batchSize: 71 }))) sum += row.n
    const seen = [sum]
    const early = c.query(new QueryStream('select n from generate_series(1, 3000) as n', [], { batchSize: 10 }))
    for await (const row of early) if (row.n === 15) break
    seen.push(await attempt(c.query('select 2')))
    return seen
  },
  async copies(c) {
    await pipeline(Readable.from(Array.from({ length: 3000 }, (_, n) => `${1000 + n}\tcopied ${n}\n`)), c.query(copyFrom('copy scratch from stdin')))
    const seen = [await attempt(c.query('select count(*), sum(id) from scratch where id >= 1000'))]
    const chunks = []
    for await (const chunk of c.query(copyTo('copy (select * from scratch where id between 1000 and 1004 order by id) to stdout (format csv)'))) chunks.push(chunk)
    seen.push(Buffer.concat(chunks).toString())
    seen.push(await attempt(pipeline(Readable.from(['x\ty\n']), c.query(copyFrom('copy scratch from stdin')))))
    async function* failing() {
      yield '9000\tx\n'
      throw new Error('changed my mind')
    }
    seen.push(await attempt(pipeline(failing(), c.query(copyFrom('copy scratch from stdin')))))
    seen.push(await attempt(c.query('select count(*) from scratch where id = 9000')))
    return seen
  },
  async notifications(c) {
    const heard = []
    const done = new Promise((resolve) => c.on('notification', (n) => heard.push([n.channel, n.payload]) === 3 && resolve()))
    await c.query('listen news')
    const other = await connect()
    await other.query("notify news, 'one'")
    await other.query('select pg_notify($1, $2)', ['news', 'two'])
    await c.query("notify news, 'three'")
    await Promise.race([done, sleep(20000)])
    await other.end()
    return heard.sort()
  },
  async notices(c) {
    const heard = []
    c.on('notice', (n) => heard.push(why(n)))
    await c.query("do $$ begin raise notice 'n'; raise warning 'w' using hint = 'h'; end $$; drop table if exists nowhere")
    await attempt(c.query('select shop.complain($1)', ['quiet']))
    return heard
  },
  async cancelled(c) {
    const other = await connect()
    const pid = (await c.query('select pg_backend_pid() as pid')).rows[0].pid
    const running = attempt(c.query('select pg_sleep(60)'))
    await sleep(300)
    await other.query('select pg_cancel_backend($1)', [pid])
    const seen = [await running, await attempt(c.query('select 1'))]
    await other.query('select pg_terminate_backend($1)', [pid])
    await sleep(200)
    seen.push((await attempt(c.query('select 1'))).message !== undefined)
    await other.end()
    return seen
  },
  async large(c) {
    const text = '0123456789'.repeat(600000)
    return [await attempt(c.query('select md5($1)', [text])), (await c.query("select repeat('x', 20000000) as x")).rows[0].x.length, (await c.query('select n, n::text from generate_series(1, 40000) as n')).rows.length]
  },
  async pool() {
    const pool = new pg.Pool({ ...options, max: 3 })
    const seen = await Promise.all(Array.from({ length: 12 }, (_, n) => pool.query('select $1::int as n', [n]).then((r) => r.rows[0].n)))
    await pool.end()
    return seen
  },
}

const wanted = process.argv.slice(2)
for (const [name, run] of Object.entries(ops)) {
  if (wanted.length && !wanted.includes(name)) continue
  const client = await connect()
  const late = sleep(60000, { failed: 'it does not end' }, { ref: false })
  let out
  try {
    out = await Promise.race([run(client), late])
  } catch (error) {
    out = { failed: String(error) }
  }
  client.connection.stream.destroy()
  console.log(JSON.stringify({ op: name, out }))
}
process.exit(0)
