-- A small bank with believable, deterministic data. Run as the service role, which owns it.
create table public.customers (
    id          integer primary key,
    name        text not null,
    ssn         text not null unique,
    email       text not null,
    city        text not null,
    born        date not null,
    joined_at   timestamptz not null
);
comment on table public.customers is 'Who banks with us';

create table public.accounts (
    id          integer primary key,
    customer_id integer not null references public.customers (id),
    kind        text not null check (kind in ('checking', 'savings', 'card')),
    number      text not null unique,
    balance     numeric(14, 2) not null,
    opened_on   date not null
);

create table public.transactions (
    id          bigint primary key,
    account_id  integer not null references public.accounts (id),
    amount      numeric(12, 2) not null,
    description text not null,
    posted_at   timestamptz not null
);

insert into public.customers
select n,
       first || ' ' || last,
       lpad((101 + (n * 37) % 560)::text, 3, '0') || '-' || lpad((10 + (n * 13) % 89)::text, 2, '0') || '-' || lpad((1000 + (n * 7919) % 8999)::text, 4, '0'),
       lower(first) || '.' || lower(last) || n || '@' || (array['example.com', 'example.org', 'mail.example'])[1 + n % 3],
       (array['Portland', 'Des Moines', 'Savannah', 'Duluth', 'Santa Fe', 'Ithaca', 'Boise'])[1 + n % 7],
       date '1941-02-11' + (n * 101) % 22000,
       timestamptz '2016-03-01 09:00:00+00' + make_interval(hours => (n * 353) % 78000)
from (
    select n,
           (array['Ada', 'Bruno', 'Carmen', 'Dmitri', 'Elena', 'Farid', 'Grace', 'Hiro', 'Ines', 'Jonas', 'Keiko', 'Luis', 'Maya', 'Noor', 'Oscar', 'Priya'])[1 + n % 16] as first,
           (array['Abbott', 'Becker', 'Castillo', 'Dahl', 'Eriksen', 'Fontaine', 'Garcia', 'Holt', 'Ito', 'Jansen', 'Kaya', 'Lindqvist', 'Moreau', 'Novak', 'Okafor', 'Petrov', 'Quinn', 'Rossi', 'Sato'])[1 + (n * 7) % 19] as last
    from generate_series(1, 240) as n
) as people;

insert into public.accounts
select n,
       1 + (n * 11) % 240,
       (array['checking', 'savings', 'card'])[1 + n % 3],
       '4417' || lpad(((n::bigint * 982451653) % 100000000)::text, 8, '0'),
       round((((n * 7907) % 1900000) / 100.0)::numeric, 2),
       date '2016-03-01' + (n * 17) % 3200
from generate_series(1, 360) as n;

insert into public.transactions
select n,
       1 + (n * 29) % 360,
       round((case when n % 4 = 0 then 1 else -1 end * (200 + (n * 3571) % 48000) / 100.0)::numeric, 2),
       (array['Grocer', 'Payroll', 'Rent', 'Power company', 'Bookshop', 'Pharmacy', 'Transfer', 'Train ticket', 'Cafe', 'Refund'])[1 + n % 10] || ' ' || (1000 + n % 9000),
       timestamptz '2026-01-01 00:00:00+00' + make_interval(mins => (n * 47) % 262800)
from generate_series(1, 6000) as n;

create index transactions_by_account on public.transactions (account_id, posted_at);
create view public.customer_contacts as select id, name, email from public.customers;
analyze;
