defmodule Koma.Redis.AddressTest do
  use ExUnit.Case, async: true

  alias Koma.Options
  alias Koma.Redis.Address

  test "a URL with everything is read, escapes and all" do
    assert Address.parse("redis://koma:p%40ss%3Aword@redis.example:6380/3") ==
             {:ok,
              %Address{
                host: "redis.example",
                port: 6380,
                user: "koma",
                password: "p@ss:word",
                database: 3
              }}
  end

  test "what is left out has the defaults of Redis" do
    assert {:ok, %Address{port: 6379, database: 0, user: nil, password: nil}} =
             Address.parse("redis://localhost")

    assert {:ok, %Address{user: nil, password: "secret"}} = Address.parse("redis://:secret@h")
    assert {:ok, %Address{user: nil, password: "secret"}} = Address.parse("redis://secret@h/")
  end

  test "a wrong URL is refused at the start, without repeating the password" do
    for {url, words} <- [
          {"rediss://:secret@h", "TLS"},
          {"http://:secret@h", "redis://"},
          {"redis://:secret@h/three", "three"},
          {"redis://", "redis://"},
          {"", "redis://"},
          {"redis://:secret@h/-1", "-1"}
        ] do
      assert {:error, message} = Options.new(redis: url)
      assert message =~ "option redis"
      assert message =~ words
      refute message =~ "secret"
    end
  end

  test "the password is neither inspected nor shown" do
    {:ok, address} = Address.parse("redis://koma:hushhush@h:1/2")
    refute inspect(address) =~ "hushhush"
    assert Address.show(address) == "h:1/2"
    refute inspect(Options.new!(redis: "redis://koma:hushhush@h:1/2")) =~ "hushhush"
  end

  test "login comes before the choice of the database" do
    {:ok, address} = Address.parse("redis://koma:secret@h/2")
    assert Address.commands(address) == [["AUTH", "koma", "secret"], ["SELECT", "2"]]
    {:ok, address} = Address.parse("redis://:secret@h")
    assert Address.commands(address) == [["AUTH", "secret"], ["SELECT", "0"]]
    {:ok, address} = Address.parse("redis://h")
    assert Address.commands(address) == [["SELECT", "0"]]
  end
end
