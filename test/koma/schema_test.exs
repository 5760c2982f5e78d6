defmodule Koma.SchemaTest do
  use ExUnit.Case, async: true

  alias Koma.Schema

  # As pydantic 2 writes it.
  @schema %{
    "$defs" => %{"Size" => %{"enum" => [128, 256], "type" => "integer"}},
    "additionalProperties" => false,
    "type" => "object",
    "required" => ["prompt"],
    "properties" => %{
      "prompt" => %{"type" => "string", "minLength" => 1, "maxLength" => 5},
      "steps" => %{"type" => "integer", "minimum" => 1, "maximum" => 50, "default" => 12},
      "scale" => %{"type" => "number", "exclusiveMinimum" => 0, "exclusiveMaximum" => 30},
      "width" => %{"type" => "integer", "multipleOf" => 32, "minimum" => 32},
      "size" => %{"$ref" => "#/$defs/Size", "default" => 256},
      "mode" => %{"enum" => ["a", "b"], "type" => "string"},
      "kind" => %{"const" => "k"},
      "flag" => %{"type" => ["boolean", "null"]},
      "seed" => %{
        "anyOf" => [%{"type" => "integer", "minimum" => 0, "maximum" => 9}, %{"type" => "null"}],
        "default" => nil
      },
      "words" => %{
        "type" => "array",
        "maxItems" => 2,
        "items" => %{"type" => "string", "maxLength" => 3}
      },
      "crop" => %{
        "type" => "object",
        "additionalProperties" => false,
        "properties" => %{"left" => %{"type" => "number", "minimum" => 0}}
      }
    }
  }

  test "defaults are filled in, null ones too, and given values are kept" do
    assert Schema.check(@schema, %{"prompt" => "a"}) ==
             {:ok, %{"prompt" => "a", "steps" => 12, "seed" => nil, "size" => 256}}

    given = %{
      "prompt" => "a",
      "steps" => 1,
      "seed" => 9,
      "size" => 128,
      "flag" => nil,
      "words" => ["abc"],
      "crop" => %{"left" => 0}
    }

    assert Schema.check(@schema, given) == {:ok, given}
  end

  test "a number without a fraction is an integer" do
    assert {:ok, %{"steps" => 4, "seed" => 3}} =
             Schema.check(@schema, %{"prompt" => "a", "steps" => 4.0, "seed" => 3.0})
  end

  for {params, code, field, bound} <- [
        {%{}, "missing_field", "prompt", nil},
        {%{"prompt" => "a", "step" => 1}, "unknown_field", "step", nil},
        {%{"prompt" => 1}, "wrong_type", "prompt", "a string"},
        {%{"prompt" => nil}, "wrong_type", "prompt", "a string"},
        {%{"prompt" => ""}, "out_of_bounds", "prompt", 1},
        {%{"prompt" => "çççççç"}, "out_of_bounds", "prompt", 5},
        {%{"prompt" => "a", "steps" => 0}, "out_of_bounds", "steps", 1},
        {%{"prompt" => "a", "steps" => 51}, "out_of_bounds", "steps", 50},
        {%{"prompt" => "a", "steps" => 1.5}, "wrong_type", "steps", "an integer"},
        {%{"prompt" => "a", "steps" => true}, "wrong_type", "steps", "an integer"},
        {%{"prompt" => "a", "scale" => 0}, "out_of_bounds", "scale", 0},
        {%{"prompt" => "a", "scale" => 30.0}, "out_of_bounds", "scale", 30},
        {%{"prompt" => "a", "width" => 100}, "out_of_bounds", "width", 32},
        {%{"prompt" => "a", "size" => 64}, "invalid_value", "size", [128, 256]},
        {%{"prompt" => "a", "mode" => "c"}, "invalid_value", "mode", ["a", "b"]},
        {%{"prompt" => "a", "kind" => "x"}, "invalid_value", "kind", ["k"]},
        {%{"prompt" => "a", "seed" => -1}, "out_of_bounds", "seed", 0},
        {%{"prompt" => "a", "seed" => "x"}, "wrong_type", "seed", "an integer or null"},
        {%{"prompt" => "a", "words" => "x"}, "wrong_type", "words", "a list"},
        {%{"prompt" => "a", "words" => ["a", "b", "c"]}, "out_of_bounds", "words", 2},
        {%{"prompt" => "a", "words" => ["a", "long"]}, "out_of_bounds", "words[1]", 3},
        {%{"prompt" => "a", "crop" => %{"right" => 1}}, "unknown_field", "crop.right", nil},
        {%{"prompt" => "a", "crop" => %{"left" => -1}}, "out_of_bounds", "crop.left", 0},
        {"text", "wrong_type", "params", "an object"}
      ] do
    test "#{inspect(params)} is #{code} at #{field}" do
      assert {:error, error} = Schema.check(@schema, unquote(Macro.escape(params)))

      assert {error.code, error.field, error.bound} ==
               {unquote(code), unquote(field), unquote(bound)}

      assert error.message =~ unquote(field)
    end
  end

  test "a misspelt field names the one that was meant" do
    assert {:error, %{message: message}} = Schema.check(@schema, %{"promt" => "a"})
    assert message =~ ~s(did you mean "prompt"?)
  end

  test "both sides of every bound" do
    for {field, good, bad} <- [
          {"steps", 50, 51},
          {"steps", 1, 0},
          {"scale", 0.001, 0.0},
          {"scale", 29.999, 30},
          {"width", 64, 63},
          {"seed", 9, 10}
        ] do
      assert {:ok, _params} = Schema.check(@schema, %{"prompt" => "a", field => good})

      assert {:error, %{code: "out_of_bounds"}} =
               Schema.check(@schema, %{"prompt" => "a", field => bad})
    end
  end
end
